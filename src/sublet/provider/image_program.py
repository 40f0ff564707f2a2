"""From a manifest's image to a program: fetched or unpacked, and what to run in it.

The image's own program, with arguments of the tenant's or its own, starts in the image's
own folder; a command of the tenant's is run as it stands, in the work folder. Variables
of the job win over the image's.
"""

from sublet.base.errors import Refused, Unavailable
from sublet.core.image import ImageRules, check_allowed, parse_reference
from sublet.provider.record import LeaseFolder
from sublet.provider.surroundings import Install, Program, Say, Surroundings
from sublet.service.image_port import Image, Images
from sublet.wire.message import Manifest

# Of variables that jobs have anyway, an image may say these two better.
_KEPT_ENV = ("HOME", "PYTHONUNBUFFERED")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check_image(manifest: Manifest, around: Surroundings) -> None:
    """Check an image before anything is prepared.

    Raises:
        Refused: this owner does not let it run here.
        Unavailable: this machine cannot run images any more.
    """
    if not manifest.image:
        return
    check_allowed(
        parse_reference(manifest.image, field="manifest.image"), around.config.images
    )
    if not around.images.is_ok:
        raise Unavailable(f"no images here: {around.images.reason}")


def make_opener(images: Images, rules: ImageRules) -> Install:
    """Give what turns a manifest with an image into a program."""

    async def open_image(
        manifest: Manifest, folder: LeaseFolder, uid: int, say: Say
    ) -> Program:
        reference = parse_reference(manifest.image, field="manifest.image")
        registry = check_allowed(reference, rules)
        if registry is not None:
            image = await images.fetch(reference, registry, say=say)
            return make_program(manifest, image, environment=image.root)
        # Beside the work folder: it is the tenant's, and goes when that goes.
        archive = folder.work / reference.path
        image = await images.unpack(
            reference.kind,
            archive,
            folder=folder.work.with_name("image"),
            bytes_max=manifest.disk_bytes,
            uid=uid,
            say=say,
        )
        archive.unlink()
        return make_program(manifest, image)

    return open_image


def make_program(manifest: Manifest, image: Image, *, environment: str = "") -> Program:
    """Say what runs in an image. Pure.

    Raises:
        Refused: neither the tenant nor the image names a program.
    """
    own = (*image.entrypoint, *(manifest.argv or image.cmd))
    argv = own if manifest.lengthens else manifest.argv or own
    if not argv:
        raise Refused(
            "the image has no program of its own; name one behind --",
            code="no_target",
            field="image",
        )
    env = {k: v for k, v in image.env.items() if k not in _KEPT_ENV}
    return Program(
        argv=argv,
        env={"PATH": _PATH, **env},
        environment=environment,
        image=image,
        directory=image.directory if argv is own else "",
    )
