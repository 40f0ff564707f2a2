"""A small SDL file that is right, to be made wrong at one place."""

from pathlib import Path

DATA = Path(__file__).parents[3] / "data/akash-sdl"

SDL = """\
version: "2.0"
services:
  web:
    image: nginx:1.27
    env:
      - MODE=fast
    expose:
      - port: 8080
        as: 80
        accept:
          - www.example.org
        to:
          - global: true
    params:
      storage:
        data:
          mount: /data
profiles:
  compute:
    small:
      resources:
        cpu:
          units: 0.5
        memory:
          size: 512Mi
        storage:
          - size: 1Gi
          - name: data
            size: 2Gi
            attributes:
              persistent: true
        gpu:
          units: 1
          attributes:
            vendor:
              nvidia:
                - model: rtx4090
                  ram: 24Gi
  placement:
    west:
      attributes:
        region: us-west
      pricing:
        small:
          denom: uakt
          amount: 1000
deployment:
  web:
    west:
      profile: small
      count: 2
"""


def line_of(text: str, what: str) -> int:
    """Give the line, from 1, of the first occurrence."""
    return text[: text.index(what)].count("\n") + 1
