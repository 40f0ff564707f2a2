"""What a decision gives: a change that is ready to be made and cannot fail."""

from collections.abc import Callable
from typing import Any

from sublet.base.errors import Refused
from sublet.core.book.book import Book
from sublet.core.book.outcome import Outcome
from sublet.core.document import Fact

# Making it changes the book and says what happened.
Change = Callable[[], tuple[Outcome, ...]]

# Reads only: (book, fact, the fact's document, now_s). Raises Refused, or gives the
# change. The fact is passed with its document, so that each handler names its type.
Decide = Callable[[Book, Fact, Any, int], Change]


def check_operator(book: Book, fact: Fact) -> None:
    """Refuse what only the market's operator may say.

    Raises:
        Refused: ``wrong_signer``.
    """
    if fact.signer != book.operator:
        raise Refused(
            f"{type(fact.document).__name__} must be signed by the market's operator, "
            f"{book.operator}",
            code="wrong_signer",
        )
