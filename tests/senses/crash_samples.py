# SPDX-License-Identifier: Apache-2.0
"""Crashes as their run-times write them: per language two versions of one crash, and another crash."""

PY = """2026-11-25 08:00:00 ERROR gateway: poll failed
Traceback (most recent call last):
  File "/opt/gw-1.2.3/gateway.py", line 88, in <module>
    main()
  File "/opt/gw-1.2.3/gateway.py", line 71, in main
    gateway.once()
  File "/opt/gw-1.2.3/reader.py", line 34, in once
    value = self._parse(raw)
            ^^^^^^^^^^^^^^^^
  File "/opt/gw-1.2.3/reader.py", line 52, in _parse
    return json.loads(raw)["value"]
           ^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError("Expecting value", s, err.value) from None
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
gateway: bye
"""
PY_NEXT = (
    PY.replace("1.2.3", "1.3.0")
    .replace("line 88", "line 97")
    .replace("line 71", "line 75")
    .replace("line 52", "line 61")
    .replace("python3.11", "python3.13")
    .replace("char 0", "char 12")
    .replace("            ^^^^^^^^^^^^^^^^\n", "")
)
PY_OTHER = """Traceback (most recent call last):
  File "/opt/gw-1.2.3/gateway.py", line 71, in main
    gateway.once()
  File "/opt/gw-1.2.3/reader.py", line 30, in once
    self.port.write(query)
  File "/opt/gw-1.2.3/vendor/site-packages/serial/serialposix.py", line 640, in write
    n = os.write(self.fd, d)
BrokenPipeError: [Errno 32] Broken pipe
"""
PY_CHAINED = """Traceback (most recent call last):
  File "a.py", line 3, in low
    return d["k"]
KeyError: 'k'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 9, in <module>
    high()
  File "a.py", line 7, in high
    raise RuntimeError("no key") from None
RuntimeError: no key
"""
PY_FATAL = """Fatal Python error: Segmentation fault

Current thread 0x00007f0a3c1d5740 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/opt/gw/native.py", line 12 in peek
  File "/opt/gw/gateway.py", line 40 in main

Extension modules: _cffi_backend (total: 1)
"""

ASAN = """=================================================================
==12345==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010 at pc 0x55d0c8a3e2a1 bp 0x7ffd3c0 sp 0x7ffd3b8
READ of size 4 at 0x602000000010 thread T0
    #0 0x55d0c8a3e2a0 in frame_checksum /src/gw-1.2/port.c:42:12
    #1 0x55d0c8a3e3f1 in read_frame /src/gw-1.2/port.c:88
    #2 0x55d0c8a3e4aa in main /src/gw-1.2/main.c:20:5
    #3 0x7f1b2a829d8f in __libc_start_call_main ../sysdeps/nptl/libc_start_call_main.h:58
    #4 0x55d0c8a3e124 in _start (/usr/bin/gw+0x1124)

0x602000000010 is located 0 bytes inside of 16-byte region [0x602000000010,0x602000000020)
freed by thread T0 here:
    #0 0x7f1b2b0b4a57 in __interceptor_free ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:127
    #1 0x55d0c8a3e390 in drop_frame /src/gw-1.2/port.c:60

SUMMARY: AddressSanitizer: heap-use-after-free /src/gw-1.2/port.c:42:12 in frame_checksum
Shadow bytes around the buggy address:
  0x0c047fff7fb0: 00 00 00 00 00 00 00 00
=>0x0c047fff8000: fa fa[fd]fd fa fa fa fa
  Addressable:           00
==12345==ABORTING
after
"""
ASAN_NEXT = (
    ASAN.replace("12345", "777")
    .replace("1.2/", "1.9/")
    .replace(":42", ":57")
    .replace(":88", ":101")
    .replace("0x55d0c8a3e", "0x5601aa111")
    .replace("0x602000000010", "0x6020000000b0")
)
ASAN_OTHER = ASAN.replace("heap-use-after-free", "stack-buffer-overflow").replace("frame_checksum", "pack_reply")
UBSAN = "/src/gw-1.2/port.c:42:18: runtime error: signed integer overflow: 2147483647 + 1 cannot be represented in type 'int'\n"
UBSAN_NEXT = "/build/gw-1.3/port.c:55:9: runtime error: signed integer overflow: 2147483646 + 9 cannot be represented in type 'int'\n"
UBSAN_OTHER = "/src/gw-1.2/main.c:9:1: runtime error: load of null pointer of type 'int'\n"
GLIBC = """*** Error in `./gw': double free or corruption (fasttop): 0x0000000001a2d010 ***
======= Backtrace: =========
/lib/x86_64-linux-gnu/libc.so.6(+0x777e5)[0x7f0b2c5b17e5]
/lib/x86_64-linux-gnu/libc.so.6(cfree+0x4c)[0x7f0b2c5be53c]
./gw(drop_frame+0x2a)[0x4006aa]
./gw(main+0x1d)[0x4005fd]
======= Memory map: ========
00400000-00401000 r-xp 00000000 fd:00 1234 /usr/bin/gw
"""
GLIBC_NEXT = GLIBC.replace("0x0000000001a2d010", "0x0000000002222010").replace("+0x2a", "+0x5f").replace("0x4006aa", "0x4017ab").replace("+0x777e5", "+0x80123")
GLIBC_OTHER = "malloc(): corrupted top size\n"
ASSERT = "gw: /src/gw-1.2/port.c:42: int read_frame(struct port *, char *): Assertion `length < MAX_FRAME' failed.\n"
ASSERT_NEXT = "gw: /src/gw-1.4/port.c:48: int read_frame(struct port *, char *): Assertion `length < MAX_FRAME' failed.\n"
ASSERT_OTHER = "gw: /src/gw-1.2/main.c:10: main: Assertion `fd >= 0' failed.\n"
CPP = "terminate called after throwing an instance of 'std::out_of_range'\n  what():  vector::_M_range_check: __n (which is 7) >= this->size() (which is 3)\n"
CPP_NEXT = CPP.replace("which is 7", "which is 12")
CPP_OTHER = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"

JAVA = """Exception in thread "poller-3" java.lang.RuntimeException: poll failed for meter 2
\tat com.acme.gw.Poller.run(Poller.java:55)
\tat com.acme.gw.Poller$$Lambda$14/0x0000000800c031f0.run(Unknown Source)
\tat java.base/java.lang.Thread.run(Thread.java:833)
Caused by: java.lang.NullPointerException: Cannot invoke "com.acme.gw.Frame.length()" because "f" is null
\tat com.acme.gw.Modbus.decode(Modbus.java:120)
\tat com.acme.gw.Modbus.lambda$read$0(Modbus.java:88)
\tat com.acme.gw.Poller.run(Poller.java:50)
\t... 2 more
"""
JAVA_NEXT = (
    JAVA.replace(":120", ":133")
    .replace(":88", ":91")
    .replace(":50", ":49")
    .replace("Lambda$14/0x0000000800c031f0", "Lambda/0x00007f0a0c")
    .replace("lambda$read$0", "lambda$read$2")
    .replace("poller-3", "poller-1")
    .replace("meter 2", "meter 3")
)
JAVA_OTHER = """2026-11-25 08:00:01 ERROR c.a.g.Store - write failed
java.io.IOException: No space left on device
\tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
\tat com.acme.gw.Store.append(Store.java:31)
\tat com.acme.gw.Poller.run(Poller.java:60)
"""
JAVA_FATAL = """#
# A fatal error has been detected by the Java Runtime Environment:
#
#  SIGSEGV (0xb) at pc=0x00007f1c2d3e4f50, pid=4711, tid=4712
#
# Problematic frame:
# C  [libserial.so+0x1f50]  readBytes+0x20
#
"""

GO = """panic: runtime error: index out of range [5] with length 3

goroutine 34 [running]:
github.com/acme/gw/modbus.(*Port).decode(0xc000122000, {0xc00001a0c0, 0x3, 0x40})
\t/home/ci/gw-1.2/modbus/port.go:88 +0x1d
github.com/acme/gw/modbus.(*Port).Read(...)
\t/home/ci/gw-1.2/modbus/port.go:70
main.poll.func1()
\t/home/ci/gw-1.2/main.go:41 +0x85
created by main.poll in goroutine 1
\t/home/ci/gw-1.2/main.go:39 +0x6f

goroutine 1 [chan receive]:
main.main()
\t/home/ci/gw-1.2/main.go:20 +0x33
exit status 2
"""
GO_NEXT = (
    GO.replace("gw-1.2", "gw-2.0")
    .replace("[5] with length 3", "[9] with length 8")
    .replace("goroutine 34", "goroutine 7")
    .replace("port.go:88", "port.go:93")
    .replace("0xc000122000", "0xc000456000")
    .replace("github.com/acme/gw/modbus", "github.com/acme/gw/v2/modbus")
)
GO_OTHER = """panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a2b3c]

goroutine 1 [running]:
main.(*Config).load(0x0)
\t/home/ci/gw-1.2/config.go:12 +0x1c
main.main()
\t/home/ci/gw-1.2/main.go:18 +0x25
"""

NODE = """/opt/gw-1.2/lib/reader.js:42
    return frame.payload.length;
                 ^

TypeError: Cannot read properties of undefined (reading 'payload')
    at Reader.decode (/opt/gw-1.2/lib/reader.js:42:18)
    at /opt/gw-1.2/lib/poller.js:17:9
    at Array.forEach (<anonymous>)
    at async poll (file:///opt/gw-1.2/lib/poller.js:15:3)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)

Node.js v18.19.0
"""
NODE_NEXT = NODE.replace("1.2", "1.5").replace(":42", ":51").replace(":17:9", ":19:11").replace("v18.19.0", "v20.1.0").replace(":95:5", ":105:5")
NODE_OTHER = """Error: ENOSPC: no space left on device, write
    at Object.writeSync (node:fs:921:3)
    at Store.append (/opt/gw-1.2/lib/store.js:9:6)
    at /opt/gw-1.2/lib/poller.js:25:11 {
  errno: -28,
  syscall: 'write',
  code: 'ENOSPC'
}
"""
NODE_HEAP = """<--- Last few GCs --->

FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
 1: 0xb090e0 node::Abort() [node]
 2: 0xa1b70e  [node]
"""

RUST = """thread 'poller' panicked at src/modbus.rs:88:17:
index out of bounds: the len is 3 but the index is 5
stack backtrace:
   0: rust_begin_unwind
             at /rustc/79e9716c9/library/std/src/panicking.rs:597:5
   1: core::panicking::panic_fmt
             at /rustc/79e9716c9/library/core/src/panicking.rs:72:14
   2: core::panicking::panic_bounds_check
   3: gw::modbus::Port::decode
             at ./src/modbus.rs:88:17
   4: gw::poll::{{closure}}
             at ./src/main.rs:41:9
   5: <alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once
   6: std::sys::unix::thread::Thread::new::thread_start
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
"""
RUST_NEXT = (
    RUST.replace(":88:17", ":93:21")
    .replace("len is 3 but the index is 5", "len is 8 but the index is 9")
    .replace("79e9716c9", "abcdef012")
    .replace("decode\n", "decode::h0123456789abcdef\n")
    .replace("'poller'", "'poller' (4711)")
)
RUST_OTHER = """thread 'main' panicked at 'called `Option::unwrap()` on a `None` value', src/config.rs:12:34
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""

TRIPLES = {
    "python": (PY, PY_NEXT, PY_OTHER),
    "asan": (ASAN, ASAN_NEXT, ASAN_OTHER),
    "ubsan": (UBSAN, UBSAN_NEXT, UBSAN_OTHER),
    "glibc": (GLIBC, GLIBC_NEXT, GLIBC_OTHER),
    "assert": (ASSERT, ASSERT_NEXT, ASSERT_OTHER),
    "c++": (CPP, CPP_NEXT, CPP_OTHER),
    "java": (JAVA, JAVA_NEXT, JAVA_OTHER),
    "go": (GO, GO_NEXT, GO_OTHER),
    "node": (NODE, NODE_NEXT, NODE_OTHER),
    "rust": (RUST, RUST_NEXT, RUST_OTHER),
}
