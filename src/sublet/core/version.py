"""Which version of the market's rules this program folds.

The operator's ``Upgrade`` in the log says from which entry on a version holds. What a
book takes, decides and looks like as bytes depends on that alone, never on which
program reads it: so old and new programs fold one log to one book, up to an Upgrade,
and a program that does not read what comes behind it stops there.
"""

from collections.abc import Mapping

from sublet.core.member import Document

RULES_VERSION = 1  # the highest that this program folds; it folds all before it

# Kinds of documents that came later, each with the version that brought it. A kind
# never changes once it is released: what needs another field becomes another kind.
SINCE: Mapping[type[Document], int] = {}
