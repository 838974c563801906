"""Attacks and honest programs beyond tests/fixtures/attacks: name, program, possible kinds.

Every attack is called as `solve(3)` and `solve(4)`, where 7 and 9 are right. Placeholders are those
of `world.py`.
"""

from __future__ import annotations

ATTACKS: dict[str, tuple[str, str]] = {
    "swallow_everything": (
        "timeout",
        """
import signal
for number in range(1, 65):
    try: signal.signal(number, lambda *a: None)
    except (OSError, ValueError): pass
def solve(n):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
    ),
    "one_c_call": ("timeout memory", "def solve(n): return len(str(9 ** (9 ** 8)))"),
    "regex_blow_up": ("timeout", "import re\ndef solve(n): re.match('(a*)*b', 'a' * 40)"),
    "clock_stopped": (
        "timeout",
        """
import time
for name in ('time', 'monotonic', 'perf_counter', 'process_time'):
    setattr(time, name, lambda: 0)
def solve(n):
    while True: pass
""",
    ),
    "half_an_answer": (
        "timeout",
        "import os, time\ndef solve(n):\n os.write(3, b'{\"v\":'); time.sleep(60)",
    ),
    "closed_channel": ("timeout", "import os, time\ndef solve(n):\n os.close(3); time.sleep(60)"),
    "stop_itself": (
        "forbidden",
        "import os, signal\ndef solve(n): os.kill(os.getpid(), signal.SIGSTOP)",
    ),
    "abort": ("forbidden crash", "import os\ndef solve(n): os.abort()"),
    "shared_memory": (
        "memory crash timeout",
        """
import mmap
def solve(n):
    keep = []
    while True:
        m = mmap.mmap(-1, 64 << 20); m.write(bytes(64 << 20)); keep.append(m)
""",
    ),
    "zip_bomb": (
        "memory timeout",
        """
import zlib
def solve(n):
    c = zlib.compressobj(1); out = b"".join(c.compress(bytes(16 << 20)) for _ in range(50))
    return len(zlib.decompress(out + c.flush()))
""",
    ),
    "numpy_memory": (
        "memory",
        "import numpy as np\ndef solve(n): return float(np.ones(1 << 30).sum())",
    ),
    "pipes_full": (
        "crash",
        """
import os
def solve(n):
    keep = []
    while True:
        r, w = os.pipe(); os.set_blocking(w, False); keep.append(r)
        try: os.write(w, bytes(1 << 20))
        except BlockingIOError: pass
""",
    ),
    "lift_limits": (
        "memory",
        """
import resource
def solve(n):
    for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        try: resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (ValueError, OSError): pass
    return len(bytearray(3 << 30))
""",
    ),
    "threads_without_end": (
        "crash memory timeout",
        """
import threading, time
def solve(n):
    while True: threading.Thread(target=time.sleep, args=(60,)).start()
""",
    ),
    "fork_by_ctypes": (
        "forbidden",
        "import ctypes\nlibc = ctypes.CDLL(None)\ndef solve(n): return libc.fork()",
    ),
    "fork_by_number": (
        "forbidden",
        "import ctypes\nlibc = ctypes.CDLL(None)\ndef solve(n): return libc.syscall(57)",
    ),
    "clone_without_thread": (
        "forbidden",
        "import ctypes\ndef solve(n): return ctypes.CDLL(None).syscall(56, 17, 0, 0, 0)",
    ),
    "shell": ("forbidden crash", "import os\ndef solve(n): return os.system('touch {{CANARY}}')"),
    "subprocess": (
        "forbidden crash",
        "import subprocess\ndef solve(n): return subprocess.call(['touch', '{{CANARY}}'])",
    ),
    "exec_true": ("forbidden crash", "import os\ndef solve(n): os.execv('/bin/true', ['true'])"),
    "metadata": (
        "forbidden crash",
        """
import os
def solve(n):
    errors = []
    for act in (lambda p: os.chmod(p, 0), lambda p: os.utime(p, (0, 0)),
                lambda p: os.setxattr(p, 'user.x', b'1'), lambda p: os.chown(p, 1, 1),
                lambda p: os.truncate(p, 0), lambda p: os.link(p, '{{CANARY}}'),
                lambda p: os.rename(p, '{{CANARY}}'), lambda p: os.symlink(p, '{{CANARY}}'),
                lambda p: os.mkdir('{{CANARY}}'), lambda p: os.unlink(p), lambda p: open(p, 'a')):
        try: act('{{VICTIM}}')
        except OSError as e: errors.append(e)
    raise errors[-1]
""",
    ),
    "udp": (
        "forbidden",
        "import socket\ndef solve(n):\n"
        " s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        " return s.sendto(b'x', ('127.0.0.1', {{PORT}}))",
    ),
    "datagram_pair_to_an_address": (
        "forbidden crash",
        "import socket\ndef solve(n):\n"
        " a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        " return a.sendto(b'x', '\\0{{ABSTRACT}}')",
    ),
    "stream_pair_to_an_address": (
        "crash forbidden",
        "import socket\ndef solve(n):\n"
        " a, b = socket.socketpair()\n return a.sendto(b'x', '\\0{{ABSTRACT}}')",
    ),
    "signal_by_pipe_owner": (
        "forbidden",
        "import fcntl, os\ndef solve(n):\n r, w = os.pipe()\n"
        " fcntl.fcntl(r, 8, {{PARENT_PID}}); fcntl.fcntl(r, 10, 9)\n"
        " fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC); os.write(w, b'x'); return 7",
    ),
    "owner_by_ioctl": (
        "forbidden",
        "import fcntl, socket, struct\ndef solve(n):\n a, b = socket.socketpair()\n"
        " fcntl.ioctl(a, 0x8901, struct.pack('i', {{PARENT_PID}})); return 7",
    ),
    "read_parents_memory": (
        "forbidden crash",
        "def solve(n): return open('/proc/{{PARENT_PID}}/mem', 'rb').read(1)",
    ),
    "process_vm_readv": (
        "forbidden",
        "import ctypes\n"
        "def solve(n): return ctypes.CDLL(None).process_vm_readv({{PARENT_PID}}, 0, 0, 0, 0, 0)",
    ),
    "ptrace": (
        "forbidden",
        "import ctypes\ndef solve(n): return ctypes.CDLL(None).ptrace(16, {{PARENT_PID}}, 0, 0)",
    ),
    "read_tests_from_disk": (
        "forbidden crash",
        "def solve(n): return open('{{SECRET_FILE}}').read()",
    ),
    "list_the_judge": (
        "forbidden crash",
        "import os\ndef solve(n): return os.listdir('{{JUDGE_DIR}}')",
    ),
    "import_the_judge": (
        "crash",
        "import sys\nsys.path.insert(0, '{{JUDGE_DIR}}')\n"
        "def solve(n):\n import {{JUDGE_MODULE}}.sandbox.compare as c\n c.same = 1; return 7",
    ),
    "source_of_the_judge": (
        "crash forbidden",
        "import sys\ndef solve(n):\n"
        " f = sys._getframe()\n"
        " while f.f_back: f = f.f_back\n"
        " return open(f.f_code.co_filename).read()",
    ),
    "environment_of_init": (
        "forbidden crash",
        "def solve(n): return open('/proc/1/environ', 'rb').read()",
    ),
    "lying_int": (
        "wrong",
        """
class Lie(int):
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __hash__(self): return 0
    def __repr__(self): return '7'
    def __int__(self): return 7
    def __index__(self): return 7
def solve(n): return Lie(0)
""",
    ),
    "lying_class": (
        "bad_output",
        "class Lie:\n @property\n def __class__(self): return int\n"
        " def __int__(self): return 7\n def __eq__(self, o): return True\n"
        "def solve(n): return Lie()",
    ),
    "lying_metaclass": (
        "bad_output crash",
        "class M(type):\n def __eq__(s, o): return True\n def __hash__(s): return hash(int)\n"
        "class Lie(metaclass=M): pass\ndef solve(n): return Lie()",
    ),
    "false_numpy": (
        "bad_output",
        "class Lie:\n def tolist(self): return self\nLie.__module__ = 'numpy'\n"
        "def solve(n): return Lie()",
    ),
    "nan": ("wrong", "def solve(n): return float('nan')"),
    "infinity": ("wrong", "def solve(n): return float('inf')"),
    "true": ("wrong", "def solve(n): return True"),
    "text_of_a_number": ("wrong", "def solve(n): return str(2 * n + 1)"),
    "sys_exit_at_import": ("crash", "import sys\nsys.exit(0)"),
    "exit_in_call": ("crash", "import os\ndef solve(n): os._exit(0)"),
    "exit_hooks": (
        "crash",
        "import atexit, os\natexit.register(os._exit, 0)\ndef solve(n): raise SystemExit(0)",
    ),
    "false_setup_report": (
        "bad_output wrong crash",
        'import os\nos.write(3, b\'{"setup":["a","b",null]}\\n\')\ndef solve(n): return 0',
    ),
    "answers_ahead": (
        "wrong bad_output",
        "import os\nos.write(3, b'{\"load\":null}\\n' + b'{\"v\":1}\\n' * 9)\n"
        "def solve(n): return 0",
    ),
    "verdict_in_the_answer": (
        "bad_output",
        "import os\ndef solve(n):\n"
        ' os.write(3, b\'{"kind":"ok"}\\n{"passed":true,"v":7}\\n\'); os._exit(0)',
    ),
    "pickle_on_the_channel": (
        "bad_output crash",
        """
import os, pickle
class Bomb:
    def __reduce__(self): return (os.mkdir, ('{{CANARY}}',))
def solve(n):
    os.write(3, pickle.dumps(Bomb()) + b'\\n'); os._exit(0)
""",
    ),
    "empty_builtins": (
        "crash bad_output",
        "import builtins\ndef solve(n):\n vars(builtins).clear(); return 0",
    ),
    "answer_without_end": (
        "bad_output timeout",
        "import os\ndef solve(n):\n while True: os.write(3, b'[' * 65536)",
    ),
    "deep_answer": (
        "bad_output crash",
        "import os\ndef solve(n): os.write(3, b'{\"v\":' + b'[' * 400000 + b'\\n'); os._exit(0)",
    ),
    "nested_result": ("bad_output", "def solve(n):\n a = []; a.append(a); return a"),
    "giant_result": ("bad_output", "def solve(n): return 'x' * (2 << 20)"),
    "many_values": ("bad_output", "def solve(n): return [0] * 300000"),
    "endless_iterator": ("bad_output", "import itertools\ndef solve(n): return itertools.count()"),
    "endless_list": (
        "wrong",
        "class L(list):\n def __iter__(self):\n  while True: yield 1\ndef solve(n): return L([1])",
    ),
    "huge_integer": ("bad_output", "def solve(n): return 1 << 40_000_000"),
    "long_integer_literal": (
        "bad_output crash",
        "import os\ndef solve(n): os.write(3, b'{\"v\":' + b'7' * 500000 + b'}\\n'); os._exit(0)",
    ),
    "colliding_hashes": (
        "wrong bad_output timeout",
        "import os\nM = 2**61 - 1\ndef solve(n):\n"
        " body = ','.join('{\"i\":\"%s\"}' % hex(i * M) for i in range(30000))\n"
        " os.write(3, ('{\"v\":{\"s\":[' + body + ']}}\\n').encode())\n"
        " while True: pass",
    ),
    "surrogates": ("wrong", "def solve(n): return '\\ud800\\x00\\n{\"v\":7}\\x1b[2J'"),
    "not_utf8": (
        "bad_output crash",
        'import os\ndef solve(n): os.write(3, b\'{"v":"\\xff\\xfe"}\\n\'); os._exit(0)',
    ),
    "hostile_exception": (
        "crash",
        """
class E(Exception):
    def __str__(self): raise self
    __repr__ = __str__
def solve(n): raise E()
""",
    ),
    "exception_without_end": (
        "timeout",
        "class E(Exception):\n def __str__(self):\n  while True: pass\ndef solve(n): raise E()",
    ),
    "null_pointer": ("crash", "import ctypes\ndef solve(n): return ctypes.string_at(0)"),
    "stack_overflow": (
        "crash timeout",
        "import sys\nsys.setrecursionlimit(10**9)\n"
        "class A:\n def __getattr__(s, k): return getattr(s, k + 'a')\n"
        "def f(a): return [f(x) for x in map(f, [a])]\ndef solve(n): return f(1)",
    ),
    "compiler_bomb": ("crash memory timeout", "x = " + "(" * 50000 + ")" * 50000),
    "compiler_bomb_of_values": (
        "crash memory timeout bad_output",
        "def solve(n): return eval('1 << (1 << 36)')",
    ),
    "namespaces": (
        "forbidden",
        "import ctypes\ndef solve(n): return ctypes.CDLL(None).unshare(0x10000000)",
    ),
    "io_uring": (
        "forbidden",
        "import ctypes\ndef solve(n): return ctypes.CDLL(None).syscall(425, 8, 0)",
    ),
    "personality": (
        "wrong",
        "import ctypes\ndef solve(n): return ctypes.CDLL(None).personality(0x40000)",
    ),
    "memory_file": ("forbidden", "import os\ndef solve(n): return os.memfd_create('x')"),
    "profile_the_zygote": (
        "forbidden crash",
        "import os\ndef solve(n): return open('/proc/%d/mem' % os.getppid(), 'rb').read(1)",
    ),
}
"""Name to (kinds that may come out, program)."""

HONEST: dict[str, str] = {
    "asyncio": """
import asyncio
async def work(n):
    await asyncio.sleep(0)
    return 2 * n + 1
def solve(n): return asyncio.run(work(n))
""",
    "thread_pool": """
from concurrent.futures import ThreadPoolExecutor
def solve(n):
    with ThreadPoolExecutor(4) as pool: return sum(pool.map(lambda i: n, range(2))) + 1
""",
    "numpy": "import numpy as np\ndef solve(n): return np.array([n, n, 1]).sum()",
    "numpy_linalg": (
        "import numpy as np\n"
        "def solve(n): return int(round(np.linalg.solve(np.eye(2), [2 * n + 1, 0])[0]))"
    ),
    "numpy_late_part": (
        "def solve(n):\n import numpy.testing as t\n t.assert_equal(1, 1)\n return 2 * n + 1"
    ),
    "late_import": "def solve(n):\n import colorsys, wave, sqlite3 as _\n return 2 * n + 1",
    "limits": """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sys.setrecursionlimit(1 << 20)
threading.stack_size(1 << 27)
def solve(n):
    out = []
    t = threading.Thread(target=lambda: out.append(2 * n + 1)); t.start(); t.join()
    return out[0]
""",
    "class_of_its_own": """
from dataclasses import dataclass, asdict
from enum import IntEnum
class Odd(IntEnum):
    A = 7
    B = 9
def solve(n): return Odd.A if n == 3 else Odd.B
""",
    "print_and_devnull": """
import os, sys
def solve(n):
    print('noise' * 1000, file=sys.stderr); print('x')
    with open(os.devnull, 'w') as f: f.write('x')
    return 2 * n + 1
""",
    "event_loop_signals": """
import signal, time
def solve(n):
    signal.signal(signal.SIGALRM, lambda *a: None); signal.setitimer(signal.ITIMER_REAL, 5)
    time.sleep(0.01); signal.alarm(0)
    return 2 * n + 1
""",
    "random_and_secrets": """
import random, secrets, uuid, os
def solve(n):
    random.seed(1); random.random(); secrets.token_hex(); uuid.uuid4(); os.urandom(4)
    return 2 * n + 1
""",
    "decimal_dates_zones": """
from decimal import Decimal
from datetime import datetime
import time
def solve(n):
    datetime.now(); time.localtime(); datetime.strptime('2020-01-01', '%Y-%m-%d')
    return int(Decimal(2) * n + 1)
""",
    "eval_exec_type": "def solve(n):\n d = {}; exec('x = 2 * n + 1', {'n': n}, d); return d['x']",
    "none_default": "def solve(n, k=None, *rest, **more): return 2 * n + 1",
    "deep_recursion": """
import sys
sys.setrecursionlimit(100000)
def depth(k): return 0 if k == 0 else 1 + depth(k - 1)
def solve(n): return depth(20000) - 20000 + 2 * n + 1
""",
}
"""Programs that must be right on `solve(3) == 7` and `solve(4) == 9`."""

SCRIPTS: dict[str, str] = {
    "fast_output_in_exit_hook": """
import atexit, io, os, sys
sys.stdout = io.StringIO()
atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))
a, b = map(int, sys.stdin.buffer.readline().split())
print(a + b)
""",
    "size_of_input": """
import io, os
data = os.read(0, os.fstat(0).st_size).split()
print(sum(map(int, data)))
""",
    "mapped_input": """
import mmap
with mmap.mmap(0, 0, access=mmap.ACCESS_READ) as m: print(sum(map(int, m[:].split())))
""",
    "open_zero": "print(sum(map(int, open(0).read().split())))",
    "dev_stdin": "print(sum(map(int, open('/dev/stdin').read().split())))",
    "threaded_main": """
import sys, threading
sys.setrecursionlimit(10**6); threading.stack_size(1 << 27)
def main(): print(sum(map(int, input().split())))
threading.Thread(target=main).start()
""",
    "exit_inside": "import sys\nprint(sum(map(int, input().split())))\nsys.exit()",
    "exit_builtin": "print(sum(map(int, input().split())))\nexit()",
    "quit_builtin": "print(sum(map(int, input().split())))\nquit(0)",
    "os_exit_after_flush": (
        "import os, sys\nprint(sum(map(int, input().split())), flush=True)\nos._exit(0)"
    ),
    "fileinput": "import sys\nfor l in sys.stdin: print(sum(map(int, l.split())))",
    "null_device": ("import os\nopen(os.devnull).read()\nprint(sum(map(int, input().split())))"),
}
"""Scripts that read `3 4` and print `7`."""
