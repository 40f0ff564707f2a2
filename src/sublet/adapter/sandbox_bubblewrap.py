"""The sandbox port on bubblewrap: namespaces, seccomp, control groups, own uids."""

import resource

from sublet.adapter.bubblewrap_options import build_argv, build_options
from sublet.adapter.image_place import find_spec_underlays
from sublet.adapter.job_python import find_python_for
from sublet.adapter.sandbox_warden import (
    HERE,
    WardenSandbox,
    find_files_max,
    find_root_links,
)
from sublet.adapter.seccomp_filter import compile_filter
from sublet.service.ports import SandboxSpec


class BubblewrapSandbox(WardenSandbox):
    """Sandboxes by bubblewrap; implements ``service.ports.Sandbox``."""

    name = "bubblewrap"
    _program_name = "bwrap"
    _package = "bubblewrap"

    def _write_launch(
        self, spec: SandboxSpec, *, uid: int, shares_network: bool
    ) -> dict[str, object]:
        python = find_python_for(spec)
        files, size = find_files_max(), spec.file_bytes_max
        return {
            "kind": "bubblewrap",
            "program": self.find_program(),
            "options": build_options(
                spec,
                python=python,
                gpu=self._find_gpu_files(spec.gpu_uuids),
                root_links=find_root_links(),
                seccomp=compile_filter(),
                bridge=str(HERE / "network_bridge.py"),
                shares_network=shares_network,
                underlays=find_spec_underlays(spec),
            ),
            "argv": build_argv(spec, python=python),
            "rlimits": (
                (resource.RLIMIT_CORE, 0, 0),
                (resource.RLIMIT_FSIZE, size, size),
                (resource.RLIMIT_NOFILE, files, files),
            ),
        }
