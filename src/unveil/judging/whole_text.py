"""Text that can be written anywhere: no half of a character, whatever a model or an endpoint wrote."""


def whole_text(text: str) -> str:
    """`text` with halves of characters (lone surrogates) joined where they belong together, else replaced by U+FFFD.

    Such a half comes from a JSON escape (an emoji cut in two by a limit on tokens), and no file takes it as UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
