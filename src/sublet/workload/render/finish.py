"""A frame's units become the picture that the artist gets: join, then all of post.

    frames/0001.exr, frames/0001.png    as the scene says
    .work/merged/0001.exr               what the workers rendered, joined

What is there already, whole, is not made again. The denoiser, the compositor and the
encoder run once, on this machine, in a sandbox (``posting``).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sublet.adapter.exr_file import read_picture, write_picture
from sublet.base.errors import PeerFault, Unavailable
from sublet.core.render.picture import Picture
from sublet.core.render.tile import merge_frame
from sublet.core.render.unit import Recipe
from sublet.workload.render import posting
from sublet.workload.render.farm import Read
from sublet.workload.render.posting import PostWish
from sublet.workload.render.tracing import Project

SHEET_COLUMNS = 6


class Finish:
    """Finishes the frames of one job."""

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
        for place in (self._frames, self._merged):
            place.mkdir(parents=True, exist_ok=True)

    async def finish(self, frames: Sequence[int], read: Read) -> dict[int, str]:
        """Join frames' units and finish them; give the pictures' paths in the folder.

        Args:
            frames: which.
            read: gives a frame's parts, None for one that is not to be finished.

        Raises:
            Refused: the scene's compositor wants what the pictures do not hold.
            Unavailable: the disk, or no sandbox here.
        """
        made: dict[int, str] = {}
        merged = []
        for frame in frames:
            found = await asyncio.to_thread(self._merge, frame, read)
            if isinstance(found, str):
                made[frame] = found
            elif found is not None:
                merged.append(found)
        if self._project is not None and merged:
            posted = await posting.post_frames(
                self._project, merged, wish=self._wish, folder=self._frames
            )
            for one in posted:
                shown = one.png or one.preview or one.exr
                made[one.frame] = f"frames/{shown.name}" if shown else ""
        return made

    def _merge(self, frame: int, read: Read) -> posting.Picture | str | None:
        """Join a frame; give the path of its picture where that is made already."""
        place, parts = self._merged / f"{frame:04}.exr", read(frame)
        if parts is None:
            return None
        picture = merge_frame(parts, self._recipe)
        ending = ".png" if self._wish.has_png else ".jpg"
        shown = self._frames / place.name
        if self._project is not None:
            shown = shown.with_suffix(ending)
        if shown.exists() and self._is_same(place, picture):
            return f"frames/{shown.name}"
        write_picture(place, picture)
        if self._project is not None:
            return posting.Picture(frame, place)
        write_picture(shown, picture)
        return f"frames/{shown.name}"

    def _is_same(self, place: Path, picture: Picture) -> bool:
        width, height = self._recipe.width, self._recipe.height
        try:
            before = read_picture(place, width=width, height=height)
        except (PeerFault, Unavailable):
            return False
        return np.array_equal(before, picture)

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
