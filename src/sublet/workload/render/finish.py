"""A frame's units become the picture that the artist gets: join, then all of post.

    frames/0001.exr, frames/0001.png    as the scene says
    .work/merged/0001.exr               what the workers rendered, joined

What is there already, whole, is not made again. The denoiser, the compositor and the
encoder run once, on this machine, in a sandbox (``posting``).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sublet.adapter.exr_file import write_picture
from sublet.core.render.picture import Picture
from sublet.core.render.tile import merge_frame
from sublet.core.render.unit import Recipe, Unit
from sublet.workload.render import posting
from sublet.workload.render.posting import PostWish
from sublet.workload.render.tracing import Project

SHEET_COLUMNS = 6


class Finish:
    """Finishes the frames of one job, one at a time."""

    def __init__(
        self, folder: Path, *, recipe: Recipe, project: Project | None, wish: PostWish
    ) -> None:
        """Take where frames go.

        Args:
            folder: of the whole render.
            recipe: of its units.
            project: the scene; None where it has no post stage of its own.
            wish: what is to be made of each frame.
        """
        self._frames = folder / "frames"
        self._merged = folder / ".work" / "merged"
        self._recipe = recipe
        self._project = project
        self._wish = wish
        self._turn = asyncio.Lock()
        for place in (self._frames, self._merged):
            place.mkdir(parents=True, exist_ok=True)

    async def finish(self, frame: int, parts: Sequence[tuple[Unit, Picture]]) -> str:
        """Join a frame's units and finish it; give the picture's path in the folder.

        Raises:
            Refused: the scene's compositor wants what the pictures do not hold.
            Unavailable: the disk, or no sandbox here.
        """
        async with self._turn:
            merged = self._merged / f"{frame:04}.exr"
            picture = await asyncio.to_thread(merge_frame, parts, self._recipe)
            await asyncio.to_thread(write_picture, merged, picture)
            if self._project is None:
                await asyncio.to_thread(
                    write_picture, self._frames / merged.name, picture
                )
                return f"frames/{merged.name}"
            (posted,) = await posting.post_frames(
                self._project,
                [posting.Picture(frame, merged)],
                wish=self._wish,
                folder=self._frames,
            )
        shown = posted.png or posted.preview or merged
        return f"frames/{shown.name}"

    async def film(
        self, frames: Sequence[int], *, fps: float, has_video: bool, folder: Path
    ) -> tuple[Path | None, Path | None]:
        """Make the video, where it is wanted, and the contact sheet.

        Raises:
            Unavailable: no Blender or no sandbox here.
        """
        pictures = [self._frames / f"{frame:04}.png" for frame in sorted(frames)]
        pictures = [place for place in pictures if place.exists()]
        if self._project is None or not pictures:
            return None, None
        return await posting.make_film(
            pictures,
            fps=fps,
            folder=folder,
            has_video=has_video,
            sheet_columns=min(SHEET_COLUMNS, len(pictures)),
        )
