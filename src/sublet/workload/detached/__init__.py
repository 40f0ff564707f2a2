"""Jobs that a node looks after: handed over, followed, fetched."""
