"""What a job brings home: outputs to their places, then its chunks away.

Whatever fails here is this machine's own: the provider did its part and is paid.
"""

from sublet.adapter.home_folder import Home
from sublet.adapter.tree_writing import write_tree
from sublet.base.errors import Refused, Unavailable
from sublet.core.job.state import Job
from sublet.wire.message import Tree
from sublet.workload.run.layout import lay_out_or_rescue
from sublet.workload.run.work import Work


class Harvest:
    """One job's. Methods block."""

    def __init__(self, *, home: Home, work: Work) -> None:
        """Take where it goes; nothing is written yet."""
        self.fault = ""  # what could not be done on this machine
        self.checkpoint = ""  # local path of the last one, if the job failed
        self._home = home
        self._work = work
        self._has_stranded = False  # outputs that lie nowhere but in the chunks

    def store(self, outputs: Tree, *, fault: str) -> tuple[str, ...]:
        """Put fetched outputs where they were asked for; name those never made.

        Args:
            outputs: checked.
            fault: why this machine could not fetch all of them, or "".
        """
        done = lay_out_or_rescue(
            outputs,
            self._work.terms.outputs,
            blobs=self._work.blobs,
            rescue=self._home.job_folder(self._work.id) / "outputs",
        )
        self.fault = "; ".join(done.faults)
        if fault:
            self.fault = (
                f"{fault}; the job is done and paid, and not all of its outputs could "
                "be fetched: then run it again"
            )
        self._has_stranded = done.is_lost
        return done.missing

    def tidy(self, job: Job, *, checkpoint: Tree) -> None:
        """Let go of the chunks; what a failed job had secured stays, as files."""
        if job.exit_code and checkpoint.files:
            folder = self._home.job_folder(self._work.id) / "checkpoint"
            path = self._work.terms.checkpoint
            try:
                write_tree(checkpoint, folder / path, blobs=self._work.blobs)
            except (Refused, Unavailable) as fault:
                self.fault = self.fault or fault.message
                return
            # To be named as an input: then the next job has it under the same path.
            self.checkpoint = str(folder / path.partition("/")[0])
        if not self._has_stranded:
            self._home.drop_job_blobs(self._work.id)
