"""Why something failed, in one line."""


def reason_of(error: BaseException, stage: str) -> str:
    """What an exception means. stage: `the program` or `a test`."""
    if isinstance(error, SystemExit):
        return f"{stage} ended the run"
    if isinstance(error, MemoryError):
        return f"{stage} needed too much memory"
    try:
        words = str(error)
    except Exception:
        words = ""
    if isinstance(error, AssertionError):
        return f"{stage} failed{_place(error)}: {words}" if words else f"{stage} failed{_place(error)}"
    return f"{stage} raised {type(error).__name__}{_place(error)}: {words}"


def _place(error: BaseException) -> str:
    trace, found = error.__traceback__, ""
    while trace:
        name = trace.tb_frame.f_code.co_filename
        if name in ("<program>", "<tests>"):
            found = f" (line {trace.tb_lineno} of {name.strip('<>')})"
        trace = trace.tb_next
    return found
