"""``sublet render``: a scene's frames, on several machines."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.base.errors import Refused
from sublet.cli.map import EXIT_UNAVAILABLE, find_code
from sublet.cli.need import with_needs
from sublet.cli.option import HOME, HomeOption, MarketOption, make_client
from sublet.cli.run import EXIT_STOPPED, stop_on_signals

if TYPE_CHECKING:
    from sublet.cli.output import Notices
    from sublet.cli.render_screen import RenderScreen
    from sublet.workload.client import AsyncClient
    from sublet.workload.option import Needed
    from sublet.workload.render.render import RenderJob
    from sublet.workload.render.wish import RenderWish

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_needs
def render(
    scene: Annotated[
        str, typer.Argument(metavar="SCENE", help="A .blend, glTF or USD file.")
    ],
    frames: Annotated[
        str | None,
        typer.Option(
            "--frames",
            metavar="LIST",
            help="1-250, 1-250:2 or 1,5,9.  [default: the scene's]",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", metavar="N", help="Of each pixel.  [default: the scene's]"
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution",
            metavar="WxH",
            help="Pixels, such as 1920x1080.  [default: the scene's]",
        ),
    ] = None,
    tiles: Annotated[
        str,
        typer.Option(
            "--tiles",
            metavar="auto|CxR",
            help="Cut each frame into so many columns and rows; auto cuts only where "
            "there are fewer frames than machines, and where the picture stays exact.",
        ),
    ] = "auto",
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="cycles, eevee or workbench.  [default: the scene's]",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="NAME",
            help="cpu, cuda or optix; cuda and optix rent a GPU, and a machine that "
            "falls back to its CPU is not paid for it.",
        ),
    ] = "cpu",
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", help="Of the noise.  [default: the scene's]"
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="DIR", help="Where frames come to."),
    ] = "render",
    video: Annotated[
        str | None,
        typer.Option("--video", metavar="mp4", help="Make a video of the frames, too."),
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(
            "--preview",
            metavar="every:N",
            help="First every Nth frame with few samples; then you are asked.",
        ),
    ] = None,
    is_approved: Annotated[
        bool, typer.Option("--approve", help="Go on after quote and preview unasked.")
    ] = False,
    is_watermarked: Annotated[
        bool, typer.Option("--watermark", help="Write PREVIEW across the previews.")
    ] = False,
    check: Annotated[
        str,
        typer.Option(
            "--check",
            metavar="SHARE",
            help="Of the units, how many another provider checks: by-record, as much as "
            "the record of each provider asks for; 25%; none.",
        ),
    ] = "by-record",
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel", metavar="N", help="Machines at one time.  [default: 4]"
        ),
    ] = None,
    stall: Annotated[
        str | None,
        typer.Option(
            "--stall",
            metavar="TIME",
            help="A unit that gets on no further moves.  [default: 5m]",
        ),
    ] = None,
    is_scripted: Annotated[
        bool,
        typer.Option("--scripts", help="Let the scene's own Python run, sandboxed."),
    ] = False,
    is_biased: Annotated[
        bool,
        typer.Option(
            "--volume-biased",
            help="March through volumes: faster, splits exactly, slightly biased.",
        ),
    ] = False,
    has_default_camera: Annotated[
        bool,
        typer.Option(
            "--default-camera", help="Give a scene without a camera one, and light."
        ),
    ] = False,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            metavar="DIR",
            help="That holds all the scene needs.  [default: its folder]",
        ),
    ] = None,
    is_dry: Annotated[
        bool, typer.Option("--quote", help="Say what it would cost, and stop.")
    ] = False,
    *,
    needed: "Needed",
    lease: Annotated[
        str | None,
        typer.Option("--lease", metavar="TIME", help="Longest lease of one machine."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", metavar="MODE:TIME", help="How each machine is found; see map."
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Longest wait for a machine."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="What happens as a JSON object a line.")
    ] = False,
    is_quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing but errors.")
    ] = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Render a scene on several rented machines; the picture is exact, and checked.

    What the scene needs is traced by Blender itself, in a sandbox; a missing file is
    named before anything is rented. Frames, or parts of them, go to several machines
    and are joined bit for bit as one machine would have rendered them. Parts of what
    a machine sends are rendered again by another provider; who is caught lying is paid
    nothing more, and its frames are rendered anew.

    DIR/index.html shows each frame, who rendered it and who checked it. Ctrl-C stops
    and settles all; the same command goes on from there. The price is in minutes of a
    reference machine, never above --max-total.

    \b
    Examples:
      sublet render shot.blend --quote
      sublet render shot.blend --frames 1-250 --video mp4 --max-total 5.00
      sublet render still.blend --frames 1 --samples 4096 --parallel 16
      sublet render shot.blend --device cuda --gpu rtx4090:1 --preview every:10
    """
    from sublet.workload.render.wish import RenderWish

    wish = RenderWish(
        scene=scene,
        frames=frames,
        samples=samples,
        resolution=resolution,
        tiles=tiles,
        engine=engine,
        device=device,
        seed=seed,
        output=output,
        video=video,
        preview=preview,
        approve=is_approved,
        watermark=is_watermarked,
        check=check,
        scripts=is_scripted,
        volume_biased=is_biased,
        default_camera=has_default_camera,
        project=project,
    )
    options: dict[str, Any] = {
        **needed,
        "parallel": parallel,
        "stall": stall,
        "lease": lease,
        "mode": mode,
        "wait": wait,
    }
    given = {name: value for name, value in options.items() if value is not None}
    client = make_client(market, home)
    code = asyncio.run(
        _render(client, wish, given, is_dry=is_dry, as_json=as_json, is_quiet=is_quiet)
    )
    raise typer.Exit(code)


async def _render(
    client: "AsyncClient",
    wish: "RenderWish",
    options: dict[str, Any],
    *,
    is_dry: bool,
    as_json: bool,
    is_quiet: bool,
) -> int:
    from sublet.cli.output import Notices
    from sublet.cli.render_screen import make_screen

    try:
        from sublet.workload.render.render import prepare_render
    except ModuleNotFoundError as missing:
        raise Refused(
            "rendering needs Blender as a Python module; with Python 3.11: "
            "pip install 'sublet[render]'",
            code="no_blender",
        ) from missing

    screen = make_screen(as_json=as_json, is_quiet=is_quiet)
    notices = Notices(is_quiet=is_quiet or as_json)
    async with client:
        job = await prepare_render(client, wish, options=options, tell=screen.tell)
        quote, found = await job.quote()
        screen.show_quote(job, quote, found)
        if is_dry:
            return 0 if quote is not None else EXIT_UNAVAILABLE
        if job.asked.preview_every:
            if not wish.approve and not screen.approve("render a preview?"):
                return EXIT_STOPPED
            if code := await _run(job.make_preview(), screen, notices):
                return code
        if not wish.approve and not screen.approve("render it?"):
            return EXIT_STOPPED
        return await _run(job, screen, notices)


async def _run(job: "RenderJob", screen: "RenderScreen", notices: "Notices") -> int:
    running = await job.start(show=screen.hear)
    stop_on_signals(running.stop, notices, what="the render")
    with screen.over(running):
        try:
            result = await running.result()
        except asyncio.CancelledError:
            return EXIT_STOPPED
    screen.end(result)
    return find_code(result.outcome)
