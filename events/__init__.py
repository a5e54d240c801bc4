"""Events as the world sees them, and the log that keeps them.

Types and codec, deterministic ids, the hash chain, and the log port with its adapters.
"""
