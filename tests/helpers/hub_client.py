"""Run by the tests of the Hub in a process of its own, since huggingface_hub fixes its endpoint when it is imported.

Reads one JSON object a line: ``argv`` for the command, or ``code`` that assigns ``result``; ``env`` to set or unset.
"""

import contextlib
import io
import json
import os
import sys
import time
import traceback

from mrsr_bench import UserError
from mrsr_bench.cli import main

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.02))  # huggingface_hub waits between attempts, for seconds

answers = sys.stdout
for line in sys.stdin:
    asked = json.loads(line)
    before = dict(os.environ)
    for name, value in asked.get("env", {}).items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    out, err = io.StringIO(), io.StringIO()
    code, result = 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "argv" in asked:
                main(asked["argv"])
            else:
                names: dict = {}
                exec(asked["code"], names)
                result = names.get("result")
        except SystemExit as stop:
            code = stop.code or 0
        except UserError as error:
            code, result = 2, str(error)
        except BaseException:
            code = 1
            traceback.print_exc()
    os.environ.clear()
    os.environ.update(before)
    answer = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "result": result}
    print(json.dumps(answer), file=answers, flush=True)

os._exit(0)  # nothing is left to be put away, and the interpreter would take its time over torch
