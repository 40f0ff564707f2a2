"""Floor 3: use cases. They load, call the core, carry out what it says.

What they need from the world is stated in ``ports``; ``wire`` is beside them and
unseen, so that no rule depends on how a thing is encoded.
"""
