"""What the command line ends with where it is not the job's own exit code."""

from sublet.base.errors import PeerFault, Refused, SubletError

EXIT_REFUSED = 2  # the request cannot be granted; fix it
EXIT_UNAVAILABLE = 3  # nobody could do it now; try again later
EXIT_PEER_FAULT = 4  # the other side broke the protocol


def exit_code_of(fault: SubletError) -> int:
    """Say what the command line ends with for an error.

    >>> exit_code_of(Refused("no"))
    2
    """
    if isinstance(fault, PeerFault):
        return EXIT_PEER_FAULT
    return EXIT_REFUSED if isinstance(fault, Refused) else EXIT_UNAVAILABLE
