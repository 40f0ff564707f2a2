"""The rail to a chain, its pure part: what is sent, claimed and followed, and when.

Not here: what a channel is worth (``core.escrow``), bytes (``wire``), the chain itself
(``adapter.chain_rpc``).
"""
