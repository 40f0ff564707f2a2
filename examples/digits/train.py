# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "matplotlib>=3.9,<4",
#   "numpy>=1.26,<3",
#   "scikit-learn>=1.5,<2",
# ]
# ///
"""Train a classifier on 1,797 handwritten digits; survive being killed at any moment.

The images are the real ones that ship inside scikit-learn (8 x 8 pixels, written by 43
people). A network of two hidden layers learns from four fifths of them, shifted and
noised anew in each epoch; the last fifth is held back and decides. After every few
epochs all that is needed to go on (weights, momentum, random state, epoch) goes into
``checkpoints/``; a run that finds such a file goes on from there, and ends with the
same weights as one that was never interrupted.

Writes ``out/model.npz``, ``out/metrics.json`` and ``out/confusion.png``; exits 1 when
fewer than ``--accuracy`` of the held-back digits were read correctly.
"""

import argparse
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

SEED = 7
BATCH = 32
MOMENTUM = 0.9
DECAY = 1e-4  # of the weights, per step and unit of learning rate
NOISE = 0.08  # standard deviation, of pixels between 0 and 1
HELD_BACK = 0.2


class Network:
    """Layers of weights, trained by gradient descent with momentum."""

    def __init__(self, sizes: list[int], rng: np.random.Generator) -> None:
        """Draw the first weights; ``sizes`` runs from the input to the output."""
        self.weights = [
            rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out))
            for fan_in, fan_out in pairwise(sizes)
        ]
        self.biases = [np.zeros(size) for size in sizes[1:]]
        self.velocities = [np.zeros_like(part) for part in self.parameters]

    @property
    def parameters(self) -> list[np.ndarray]:
        """All that is learnt, in a fixed order."""
        return self.weights + self.biases

    def activations(self, images: np.ndarray) -> list[np.ndarray]:
        """Give each layer's output, the input first, probabilities last."""
        outputs = [images]
        last = len(self.weights) - 1
        for depth, (weight, bias) in enumerate(
            zip(self.weights, self.biases, strict=True)
        ):
            z = outputs[-1] @ weight + bias
            if depth < last:
                outputs.append(np.maximum(z, 0))
            else:
                z = np.exp(z - z.max(axis=1, keepdims=True))
                outputs.append(z / z.sum(axis=1, keepdims=True))
        return outputs

    def learn(self, images: np.ndarray, labels: np.ndarray, rate: float) -> float:
        """Take one step down the cross-entropy of a batch; give its mean."""
        outputs = self.activations(images)
        chosen = outputs[-1][np.arange(len(labels)), labels]
        delta = outputs[-1].copy()
        delta[np.arange(len(labels)), labels] -= 1
        delta /= len(labels)
        slopes: list[np.ndarray] = []
        tilts: list[np.ndarray] = []
        for depth in reversed(range(len(self.weights))):
            slopes.insert(0, outputs[depth].T @ delta + DECAY * self.weights[depth])
            tilts.insert(0, delta.sum(axis=0))
            if depth:
                delta = (delta @ self.weights[depth].T) * (outputs[depth] > 0)
        for part, velocity, slope in zip(
            self.parameters, self.velocities, slopes + tilts, strict=True
        ):
            velocity *= MOMENTUM
            velocity -= rate * slope
            part += velocity
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    def read(self, images: np.ndarray) -> np.ndarray:
        """Say which digit each image shows."""
        return self.activations(images)[-1].argmax(axis=1)


def vary(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift each image by up to one pixel and add noise: new paper, same hand."""
    squares = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    downs, rights = rng.integers(0, 3, (2, len(images)))
    rows = downs[:, None, None] + np.arange(8)[None, :, None]
    columns = rights[:, None, None] + np.arange(8)[None, None, :]
    shifted = squares[np.arange(len(images))[:, None, None], rows, columns]
    return shifted.reshape(len(images), 64) + rng.normal(0, NOISE, images.shape)


def save(
    folder: Path, *, epoch: int, network: Network, rng: np.random.Generator
) -> None:
    """Write a checkpoint, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "state.npz.part"
    with part.open("wb") as file:
        np.savez(
            file,
            *network.parameters,
            *network.velocities,
            epoch=np.array(epoch),
            rng=np.array(json.dumps(rng.bit_generator.state)),
        )
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / "state.npz")


def resume(folder: Path, *, network: Network, rng: np.random.Generator) -> int:
    """Load the checkpoint, if there is one; give the number of epochs done."""
    try:
        state = np.load(folder / "state.npz", allow_pickle=False)
    except FileNotFoundError:
        return 0
    for number, part in enumerate(network.parameters + network.velocities):
        part[...] = state[f"arr_{number}"]
    rng.bit_generator.state = json.loads(str(state["rng"]))
    return int(state["epoch"])


def draw(matrix: np.ndarray, accuracy: float, path: Path) -> None:
    """Draw the confusion matrix as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6))
    axes.imshow(matrix, cmap="Blues")
    axes.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="is")
    axes.set_title(f"{accuracy:.1%} of {matrix.sum()} held-back digits read correctly")
    for row, column in np.ndindex(matrix.shape):
        if count := matrix[row, column]:
            shade = "white" if count > matrix.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=shade)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--hidden", type=int, default=512, help="units per layer")
    parser.add_argument("--every", type=int, default=6, help="epochs per checkpoint")
    parser.add_argument("--accuracy", type=float, default=0.95, help="at least")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path("out"))
    return parser.parse_args()


def main() -> int:
    """Train, measure, write; give the exit code."""
    wish = parse_arguments()
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data / 16,
        digits.target,
        test_size=HELD_BACK,
        stratify=digits.target,
        random_state=SEED,
    )
    rng = np.random.default_rng(SEED)
    network = Network([64, wish.hidden, wish.hidden, 10], rng)
    done = resume(wish.checkpoints, network=network, rng=rng)
    print(f"{len(train_x)} digits to learn from, {len(test_x)} held back", flush=True)
    if done:
        print(f"going on after epoch {done}", flush=True)
    started = time.monotonic()
    for epoch in range(done + 1, wish.epochs + 1):
        rate = 0.05 * 0.5 * (1 + np.cos(np.pi * epoch / (wish.epochs + 1)))
        images, order = vary(train_x, rng), rng.permutation(len(train_x))
        losses = [
            network.learn(images[batch], train_y[batch], rate)
            for batch in np.array_split(order, len(order) // BATCH)
        ]
        if epoch % wish.every == 0 or epoch == wish.epochs:
            save(wish.checkpoints, epoch=epoch, network=network, rng=rng)
            print(f"epoch {epoch}/{wish.epochs} loss {np.mean(losses):.4f}", flush=True)
    answers = network.read(test_x)
    accuracy = float((answers == test_y).mean())
    wish.out.mkdir(parents=True, exist_ok=True)
    np.savez(wish.out / "model.npz", *network.parameters)
    metrics = {
        "accuracy": round(accuracy, 4),
        "held_back": len(test_y),
        "wrong": int((answers != test_y).sum()),
        "epochs": wish.epochs,
        "resumed_after_epoch": done,
        "seconds": round(time.monotonic() - started, 1),
    }
    (wish.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    draw(confusion_matrix(test_y, answers), accuracy, wish.out / "confusion.png")
    print(f"read {accuracy:.2%} of the held-back digits correctly", flush=True)
    return 0 if accuracy >= wish.accuracy else 1


if __name__ == "__main__":
    sys.exit(main())
