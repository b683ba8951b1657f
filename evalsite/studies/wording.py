"""Numbers in words, wherever people read them."""


def counted(n: int, thing: str) -> str:
    """How many of a thing, in words: `1 rater`, `1,200 votes`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
