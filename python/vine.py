# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""vine: accelerator work between virtual machines, from Python.

VineTalk (vine_talk.h): accelerators, procedures, data and tasks.

    import vine

    with vine.Talk() as talk:
        accel = talk.accelerators(vine.AccelType.CPU)[0]
        with talk.procedure("sha256") as sha256, \\
             talk.data(b"hello") as text, talk.data(32) as digest:
            with accel.issue(sha256, [text], [digest]):
                pass                    # leaving it waits
            print(digest.view.hex())

And what is beneath it (vine.h): queues of messages, and shared memory.

    with vine.Device() as device, device.connect("echo", timeout=5) as queue:
        queue.push(b"hello")
        print(queue.pull())

Everything here stands for one call of libvine, whose headers and manual pages say more.
`make install` puts this file where Debian's python3 finds it, or into PYTHONDIR=; without,
set PYTHONPATH to its folder. libvine.so is the one that $VINE_LIBRARY names, or that the
system's loader finds. Every call may be made by any thread; others run while one blocks.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import enum
import errno
import os
import signal
import time
import weakref
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_ubyte, c_uint
from ctypes import c_uint32, c_uint64, c_void_p
from typing import Any, Callable, NamedTuple, Sequence, TypeVar

__all__ = [
    "Accelerator", "AccelState", "AccelStats", "AccelType", "Data", "Device", "Error", "Info",
    "Listener", "Location", "Place", "Procedure", "Queue", "Reason", "Region", "Service",
    "Talk", "Task", "TaskError", "TaskState", "TaskStats",
]


class AccelType(enum.IntEnum):
    ANY = 0                 # all types, where one asks; never that of an accelerator
    GPU = 1
    GPU_SOFT = 2
    CPU = 3
    FPGA = 4


class AccelState(enum.IntEnum):
    FAILED = 0              # gone
    IDLE = 1
    BUSY = 2                # it runs a task, or is held exclusively


class TaskState(enum.IntEnum):
    FAILED = 0
    ISSUED = 1              # not done yet
    COMPLETED = 2


class Place(enum.IntEnum):
    HOST_ONLY = 1
    ACCEL_ONLY = 2          # not for this program: it has no view
    BOTH = 3


class Reason(enum.IntEnum):
    """Why a task failed; what the detail is stands in brackets."""

    NONE = 0
    HANDLER = 1             # the handler gave an error (its number)
    CRASHED = 2             # the handler crashed (the signal)
    TIMEOUT = 3             # it ran longer than the appliance allows
    OVERRUN = 4             # it wrote past an output (the output's number)
    NO_PROCEDURE = 5
    NOT_ALLOWED = 6         # uploaded code or source, and the appliance runs none
    NO_ACCELERATOR = 7      # it is gone, or held by another client
    NO_MEMORY = 8
    BAD_DATA = 9            # the appliance cannot reach one of the buffers
    LOST = 10               # the appliance, or its machine, died
    NOT_COMPILED = 11       # its source is wrong: the appliance's log says how


class Location(NamedTuple):
    """Where an accelerator is. Empty: not known."""

    segment: str            # the device or endpoint, or the back end's name
    appliance: str          # the service that offers it
    name: str
    host: str
    pci: str
    peer: int               # the appliance's machine, as the segment counts
    incarnation: int


class AccelStats(NamedTuple):
    """Since the appliance started; over all its clients."""

    queued: int
    running: int
    done: int
    failed: int
    busy_ns: int


class TaskStats(NamedTuple):
    """Times are of time.monotonic_ns(), 0 when it has not come to that; start and end are
    right to within error_ns."""

    issue_ns: int
    start_ns: int
    end_ns: int
    error_ns: int
    in_bytes: int
    out_bytes: int
    reason: Reason
    detail: int


class Info(NamedTuple):
    """What a device is, and how full its segment is: see VINE_INFO in linux/vine.h."""

    features: int
    segment_size: int
    generation: int
    chunk_size: int
    chunks: int
    chunks_free: int
    peer: int
    incarnation: int
    vectors: int
    ivposition: int
    memory_type: int
    kind: int
    peers: int
    services: int
    queues: int
    regions: int
    own_queues: int
    own_regions: int


class Service(NamedTuple):
    id: int
    type: int
    peer: int
    incarnation: int
    name: str


class Error(Exception):
    """A call of VineTalk failed. Standard error has what the library said about it."""


class TaskError(Error):
    """A task failed: `reason` and `detail` say why."""

    def __init__(self, reason: Reason, detail: int) -> None:
        self.reason = reason
        self.detail = detail
        text = _lib.vine_task_reason_text(reason).decode()
        if reason == Reason.HANDLER:
            text += f" ({detail}: {os.strerror(abs(detail))})"
        elif reason == Reason.CRASHED:
            text += f" ({signal.strsignal(detail) or detail})"
        elif reason == Reason.OVERRUN:
            text += f" (output {detail})"
        super().__init__(text)


# ---- the library ------------------------------------------------------------------------


class _Location(ctypes.Structure):
    _fields_ = [("segment", c_char * 64), ("appliance", c_char * 32), ("name", c_char * 32),
                ("host", c_char * 64), ("pci", c_char * 16), ("peer", c_uint),
                ("incarnation", c_uint)]


class _AccelStats(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in AccelStats._fields]


class _TaskStats(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in TaskStats._fields[:6]] + [
        ("reason", c_int), ("detail", c_int)]


class _Info(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("flags", c_uint32)] + [
        (name, c_uint64) for name in Info._fields[:4]] + [
        (name, c_uint32) for name in Info._fields[4:]]


class _Service(ctypes.Structure):
    _fields_ = [("id", c_uint64), ("type", c_uint64), ("peer", c_uint32),
                ("incarnation", c_uint32), ("name", c_char * 32)]


class _Message(ctypes.Structure):
    _fields_ = [("len", c_uint32), ("reserved", c_uint32), ("data", c_ubyte * 56)]


def _load() -> ctypes.CDLL:
    path = os.environ.get("VINE_LIBRARY") or ctypes.util.find_library("vine")
    if not path:
        raise ImportError("libvine.so is not where the system's loader looks: "
                          "give its path in VINE_LIBRARY")
    try:
        lib = ctypes.CDLL(path)
    except OSError as e:
        raise ImportError(f"libvine cannot be loaded: {e}") from None
    p = c_void_p
    signatures: tuple[tuple[Any, ...], ...] = (
        ("vine_talk_init", None),
        ("vine_talk_exit", None),
        ("vine_talk_backend", c_int, c_char_p),
        ("vine_accel_list", c_int, c_int, POINTER(POINTER(p))),
        ("vine_accel_location", _Location, p),
        ("vine_accel_type", c_int, p),
        ("vine_accel_stat", c_int, p, POINTER(_AccelStats)),
        ("vine_accel_acquire", c_int, POINTER(p)),
        ("vine_accel_release", c_int, POINTER(p)),
        ("vine_proc_register", p, c_int, c_char_p, c_char_p, c_size_t),
        ("vine_proc_get", p, c_int, c_char_p),
        ("vine_proc_put", c_int, p),
        ("vine_data_alloc", p, c_size_t, c_int),
        ("vine_data_deref", p, p),
        ("vine_data_mark_ready", None, p),
        ("vine_data_free", None, p),
        ("vine_task_issue", p, p, p, p, c_size_t, POINTER(p), c_size_t, POINTER(p)),
        ("vine_task_stat", c_int, p, POINTER(_TaskStats)),
        ("vine_task_wait", c_int, p),
        ("vine_task_free", None, p),
        ("vine_task_reason_text", c_char_p, c_int),
        ("vine_open", c_int, c_char_p),
        ("vine_info", c_int, c_int, POINTER(_Info)),
        ("vine_services", c_int, c_int, POINTER(_Service), c_uint),
        ("vine_listen", c_int, c_int, c_char_p, c_uint64, c_uint),
        ("vine_accept", c_int, c_int, c_uint, c_uint64, p),
        ("vine_connect", c_int, c_int, c_char_p, c_uint, c_uint, c_uint64, p),
        ("vine_region", c_int, c_int, c_uint64, POINTER(c_uint64)),
        ("vine_attach", c_int, c_int, c_int, POINTER(c_uint64)),
        ("vine_import", c_int, c_int, c_uint64, POINTER(c_uint64)),
        ("vine_push", c_int, c_int, POINTER(_Message), c_uint),
        ("vine_pull", c_int, c_int, POINTER(_Message), c_uint, c_uint, c_uint64),
        ("vine_map", c_int, c_int, c_uint64, POINTER(p)),
        ("vine_unmap", c_int, p, c_uint64),
        ("vine_close", c_int, c_int),
    )
    for name, result, *arguments in signatures:
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib


_lib = _load()
_free = ctypes.CDLL(None).free
_free.argtypes = [c_void_p]


def _text(name: str) -> bytes:
    """A name as C has it."""
    encoded = name.encode()
    if b"\0" in encoded:
        raise ValueError("a name must not contain a zero byte")
    return encoded


_T = TypeVar("_T")
_C = TypeVar("_C", bound="_Closing")


def _tuple(cls: Callable[..., _T], structure: ctypes.Structure) -> _T:
    """A ctypes structure as one of the tuples above."""
    values = (getattr(structure, name) for name in cls._fields)     # type: ignore
    return cls(*(v.decode(errors="replace") if isinstance(v, bytes) else v for v in values))


class _Closing:
    """Something that ends with close(), with a `with`, or when nobody uses it any more."""

    _end: weakref.finalize

    def _check_open(self) -> None:
        if not self._end.alive:
            raise ValueError(f"this {type(self).__name__} is closed")

    def close(self) -> None:
        """End it. A second time does nothing."""
        self._end()

    def __enter__(self: _C) -> _C:
        self._check_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


# ---- VineTalk ---------------------------------------------------------------------------


class _Library:
    """VineTalk, open as long as somebody has a reference to this."""

    def __init__(self) -> None:
        _lib.vine_talk_init()
        self._owner = os.getpid()
        weakref.finalize(self, _of_process, self._owner, _lib.vine_talk_exit)

    def at_end(self, thing: object, function: Callable[[int], Any],
               handle: int) -> weakref.finalize:
        """Calls function(handle) when nobody uses the thing any more, or before; until
        then, the library stays open."""
        return weakref.finalize(thing, self._call, function, handle)

    def _call(self, function: Callable[[int], Any], handle: int) -> None:
        _of_process(self._owner, function, handle)


def _of_process(owner: int, function: Callable[..., Any], *arguments: Any) -> None:
    """A child of fork() has copies of objects; what they stand for is its parent's."""
    if os.getpid() == owner:
        function(*arguments)


class Talk:
    """VineTalk, from vine_talk_init() to vine_talk_exit(). There may be several at a time.
    The library closes when all of them have ended, and all procedures, data and tasks.

    backend: "device", "shm" (which wants shm_file in the configuration), "local" or "null",
    whatever the configuration says, and from then on; it can be chosen only while the library
    is closed.
    """

    def __init__(self, backend: str | None = None) -> None:
        if backend is not None and not _lib.vine_talk_backend(_text(backend)):
            raise Error(f"there is no back end {backend!r}, or VineTalk is open already")
        self._library: _Library | None = _Library()

    def _open(self) -> _Library:
        if self._library is None:
            raise ValueError("this Talk is closed")
        return self._library

    def close(self) -> None:
        """End it. A second time does nothing."""
        self._library = None

    def __enter__(self) -> Talk:
        self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def accelerators(self, type: AccelType = AccelType.ANY) -> list[Accelerator]:
        """The accelerators of a type."""
        self._open()
        array = POINTER(c_void_p)()
        count = _lib.vine_accel_list(type, byref(array))
        found = [Accelerator(self, array[i]) for i in range(count)]
        _free(array)
        return found

    def procedure(self, name: str, type: AccelType = AccelType.ANY) -> Procedure:
        """A procedure that an appliance has, or that somebody registered; LookupError when
        there is none."""
        library = self._open()
        handle = _lib.vine_proc_get(type, _text(name))
        if not handle:
            raise LookupError(f"there is no procedure {name!r} for {AccelType(type).name}")
        return Procedure(library, handle, name)

    def register(self, name: str, code: bytes = b"",
                 type: AccelType = AccelType.ANY) -> Procedure:
        """Make a procedure known by its bytes, or find the same one again."""
        library = self._open()
        handle = _lib.vine_proc_register(type, _text(name), code, len(code))
        if not handle:
            raise Error(f"procedure {name!r} cannot be registered: nothing runs it, or other "
                        "bytes have that name")
        return Procedure(library, handle, name)

    def data(self, content: int | bytes | bytearray | memoryview,
             place: Place = Place.BOTH) -> Data:
        """A buffer of so many bytes, or with this in it."""
        library = self._open()
        if isinstance(content, int):
            return Data(library, content, place)
        with memoryview(content).cast("B") as source:
            data = Data(library, len(source), place)
            data.view[:] = source
        return data


class Accelerator:
    """An accelerator; the same one is equal each time."""

    def __init__(self, talk: Talk, handle: int) -> None:
        self._talk = talk
        self._handle = c_void_p(handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Accelerator) and self._handle.value == other._handle.value

    def __hash__(self) -> int:
        return hash(self._handle.value)

    def __repr__(self) -> str:
        return f"<vine.Accelerator {self.location.name!r}, {self.type.name}>"

    @property
    def location(self) -> Location:
        return _tuple(Location, _lib.vine_accel_location(self._handle))

    @property
    def type(self) -> AccelType:
        return AccelType(_lib.vine_accel_type(self._handle))

    @property
    def state(self) -> AccelState:
        return AccelState(_lib.vine_accel_stat(self._handle, None))

    @property
    def stats(self) -> AccelStats:
        stats = _AccelStats()
        _lib.vine_accel_stat(self._handle, byref(stats))
        return _tuple(AccelStats, stats)

    def acquire(self) -> Accelerator:
        """Hold it for this process alone: a virtual accelerator, which release() or leaving
        a `with` lets go."""
        self._talk._open()
        virtual = Accelerator(self._talk, self._handle.value or 0)
        if not _lib.vine_accel_acquire(byref(virtual._handle)):
            raise Error("this accelerator cannot be acquired: somebody holds it, or it is "
                        "virtual, or gone")
        return virtual

    def release(self) -> None:
        if not _lib.vine_accel_release(byref(self._handle)):
            raise Error("this is not an accelerator that can be released")

    def __enter__(self) -> Accelerator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def issue(self, procedure: Procedure, inputs: Sequence[Data] = (),
              outputs: Sequence[Data] = (), args: Data | None = None) -> Task:
        """Give it a task. Does not wait for its end, but for buffers that are outputs of
        tasks in flight."""
        library = self._talk._open()
        procedure._check_open()
        handle = _lib.vine_task_issue(
            self._handle, procedure._handle,
            None if args is None else args._open_handle(),
            len(inputs), (c_void_p * len(inputs))(*(d._open_handle() for d in inputs)),
            len(outputs), (c_void_p * len(outputs))(*(d._open_handle() for d in outputs)))
        if not handle:
            raise Error("the task cannot be issued: too many buffers, or the accelerator is "
                        "gone")
        return Task(library, handle)


class Procedure(_Closing):
    """A procedure, from Talk.procedure() or Talk.register()."""

    def __init__(self, library: _Library, handle: int, name: str) -> None:
        self.name = name
        self._handle = handle
        self._end = library.at_end(self, _lib.vine_proc_put, handle)


class Data:
    """A buffer for tasks, from Talk.data().

    It ends with close(), with a `with`, or when nobody uses it any more. A view of it may
    live on, and a task in flight: then its memory comes back after these.
    """

    def __init__(self, library: _Library, size: int, place: Place) -> None:
        self._handle: int = _lib.vine_data_alloc(size, place)
        if not self._handle:
            raise MemoryError(f"there is no buffer of {size} bytes, {Place(place).name}")
        self.size = size
        self.place = place
        # Each view keeps the array, whose end frees the memory.
        address = _lib.vine_data_deref(self._handle)
        array = (c_char * size).from_address(address) if address else (c_char * 0)()
        library.at_end(array, _lib.vine_data_free, self._handle)
        self._array: ctypes.Array[c_char] | None = array

    def _open_handle(self) -> int:
        if self._array is None:
            raise ValueError("this Data is closed")
        return self._handle

    @property
    def view(self) -> memoryview:
        """Its bytes, to read and to write, without a copy."""
        self._open_handle()
        if self.place == Place.ACCEL_ONLY:
            raise ValueError("this Data is for the accelerator only")
        return memoryview(self._array).cast("B")    # type: ignore

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def mark_ready(self) -> None:
        """Say that what was written is complete. Tasks may be issued without."""
        _lib.vine_data_mark_ready(self._open_handle())

    def close(self) -> None:
        """End it. A second time does nothing."""
        self._array = None

    def __enter__(self) -> Data:
        self._open_handle()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Task(_Closing):
    """A task, from Accelerator.issue(). Closing it lets it go: it still runs to its end. But
    leaving a `with` waits for it."""

    def __init__(self, library: _Library, handle: int) -> None:
        self._handle = handle
        self._end = library.at_end(self, _lib.vine_task_free, handle)

    @property
    def state(self) -> TaskState:
        """How far it is; does not block."""
        self._check_open()
        return TaskState(_lib.vine_task_stat(self._handle, None))

    @property
    def stats(self) -> TaskStats:
        self._check_open()
        stats = _TaskStats()
        _lib.vine_task_stat(self._handle, byref(stats))
        return _tuple(TaskStats, stats)._replace(reason=Reason(stats.reason))

    def wait(self) -> None:
        """Wait for its end; TaskError when it failed. Ctrl-C is seen only after that."""
        self._check_open()
        if _lib.vine_task_wait(self._handle) != TaskState.COMPLETED:
            raise TaskError(*self.stats[-2:])

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is None:
                self.wait()
        finally:
            self.close()


# ---- queues and shared memory -----------------------------------------------------------

_NONBLOCK = 1
_WAIT_SERVICE = 2
_FOREVER = (1 << 64) - 1
_MESSAGE_MAX = 56


def _deadline(timeout: float | None) -> int:
    if timeout is None:
        return _FOREVER
    return time.monotonic_ns() + int(timeout * 1e9) if timeout > 0 else 0


def _call(function: Any, *arguments: Any) -> int:
    """The result of a call of vine.h; OSError, or what is derived of it, when it failed."""
    while True:
        result: int = function(*arguments)
        if result >= 0:
            return result
        if result != -errno.EINTR:      # else Python calls its signal handlers now
            raise OSError(-result, f"{os.strerror(-result)} ({function.__name__})")


class _Descriptor(_Closing):
    """A file descriptor: for select(), asyncio and the like."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = weakref.finalize(self, _lib.vine_close, fd)

    def fileno(self) -> int:
        self._check_open()
        return self._fd


class Device(_Descriptor):
    """/dev/vineN, or an endpoint: shm:NAME, shm:/path or server:/socket, see libvine(7). None:
    $VINE_DEVICE, or /dev/vine0."""

    def __init__(self, path: str | None = None) -> None:
        super().__init__(_call(_lib.vine_open, None if path is None else _text(path)))

    def info(self) -> Info:
        info = _Info()
        _call(_lib.vine_info, self.fileno(), byref(info))
        return _tuple(Info, info)

    def services(self) -> list[Service]:
        """What can be connected to."""
        room = 64
        while True:
            array = (_Service * room)()
            count = _call(_lib.vine_services, self.fileno(), array, room)
            if count <= room:
                return [_tuple(Service, service) for service in array[:count]]
            room = count

    def listen(self, name: str, type: int = 0, nonblock: bool = False) -> Listener:
        """Offer a service, until the listener is closed."""
        flags = _NONBLOCK if nonblock else 0
        return Listener(_call(_lib.vine_listen, self.fileno(), _text(name), type, flags))

    def connect(self, name: str, depth: int = 64, timeout: float | None = None,
                wait_service: bool = True, nonblock: bool = False) -> Queue:
        """Make a queue to a service. If there is none of that name: wait for it, or
        FileNotFoundError. timeout: seconds."""
        flags = (_NONBLOCK if nonblock else 0) | (_WAIT_SERVICE if wait_service else 0)
        return Queue(_call(_lib.vine_connect, self.fileno(), _text(name), depth, flags,
                           _deadline(timeout), None))

    def region(self, size: int) -> Region:
        """Shared memory, zeroed."""
        rounded = c_uint64()
        fd = _call(_lib.vine_region, self.fileno(), size, byref(rounded))
        return Region(fd, rounded.value)


class Listener(_Descriptor):
    """A service that is offered, from Device.listen()."""

    def accept(self, timeout: float | None = None, nonblock: bool = False) -> Queue:
        """Take the next connection."""
        flags = _NONBLOCK if nonblock else 0
        return Queue(_call(_lib.vine_accept, self.fileno(), flags, _deadline(timeout), None))


class Queue(_Descriptor):
    """One side of a connection, from Device.connect() or Listener.accept().

    BrokenPipeError: the other side is gone. BlockingIOError: no room, or nothing there, and
    not to wait. TimeoutError: nothing came.
    """

    def push(self, *messages: bytes) -> int:
        """Send messages of at most 56 bytes, without waiting; returns how many of them: fewer
        when the queue has become full."""
        array = (_Message * len(messages))()
        for to, message in zip(array, messages):
            if len(message) > _MESSAGE_MAX:
                raise ValueError(f"a message has at most {_MESSAGE_MAX} bytes")
            to.len = len(message)
            ctypes.memmove(to.data, bytes(message), len(message))
        return _call(_lib.vine_push, self.fileno(), array, len(messages))

    def pull(self, room: int = 64, least: int = 1, timeout: float | None = None) -> list[bytes]:
        """Receive up to `room` messages, and wait until `least` of them are there."""
        array = (_Message * room)()
        count = _call(_lib.vine_pull, self.fileno(), array, room, least, _deadline(timeout))
        return [bytes(message.data[:message.len]) for message in array[:count]]

    def attach(self, region: Region) -> int:
        """Let the server import one of our regions; returns the region's id, for messages."""
        id = c_uint64()
        _call(_lib.vine_attach, self.fileno(), region.fileno(), byref(id))
        return id.value

    def import_region(self, id: int) -> Region:
        """A region that the client has attached."""
        size = c_uint64()
        fd = _call(_lib.vine_import, self.fileno(), id, byref(size))
        return Region(fd, size.value)


class Region(_Descriptor):
    """Shared memory, from Device.region() or Queue.import_region()."""

    def __init__(self, fd: int, size: int) -> None:
        super().__init__(fd)
        self.size = size

    def map(self) -> memoryview:
        """All of it, to read and to write; it may be used after close(). The mapping ends
        with the last view of it."""
        address = c_void_p()
        _call(_lib.vine_map, self.fileno(), self.size, byref(address))
        array = (c_char * self.size).from_address(address.value)
        weakref.finalize(array, _of_process, os.getpid(), _lib.vine_unmap, address.value,
                         self.size)
        return memoryview(array).cast("B")      # type: ignore
