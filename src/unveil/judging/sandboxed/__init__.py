"""What runs inside the sandbox: scripts that use the standard library alone and are started by `sandbox.py`.

`child.py` gives up rights (`confine.py`, `syscalls.py`) and parts in two: the program in one process, its tests in the
other (`program_side.py`, `test_side.py`), which exchange plain data (`exchange.py`, `plain_data.py`).
"""
