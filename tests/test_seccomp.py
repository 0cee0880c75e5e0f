"""The filter of system calls, run by a machine of our own as the kernel's would run it, for both architectures."""

import errno
import os
import re
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sandbox import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def refused(code: int) -> int:
    return 0x00050000 | code


Program = list[tuple[int, int, int, int]]


def loaded(machine: str, *, bounded: bool = True) -> Program:
    return list(struct.iter_unpack("=HBBI", seccomp.program(machine, bounded=bounded)))


PROGRAMS = {machine: loaded(machine) for machine in ARCHITECTURES}


def decided(lines: Program, number: int, arguments: tuple[int, ...] = (), audit: int = ARCHITECTURES["x86_64"]) -> int:
    """What the kernel would do: its machine for filters, as far as ours uses it. Fails where a jump leads nowhere."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *([0] * (6 - len(arguments))))
    place = held = 0
    while True:
        code, where_true, where_false, value = lines[place]
        place += 1
        if code == 0x20:
            held = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            is_so = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            place += where_true if is_so else where_false
        assert place < len(lines)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_call_that_is_listed_is_refused_and_others_are_not(machine: str) -> None:
    column, audit = list(ARCHITECTURES).index(machine), ARCHITECTURES[machine]
    program = PROGRAMS[machine]
    listed = {row[column] for row in seccomp._REFUSED.values()} - {None}
    absent = {row[column] for row in seccomp._ABSENT.values()} - {None}
    for number in range(600):
        expected = ALLOW
        if number in listed:
            expected = refused(errno.EPERM)
        elif number in absent:
            expected = refused(errno.ENOSYS)
        elif number == seccomp._SOCKET[column]:
            expected = refused(errno.EAFNOSUPPORT)  # family 0
        assert decided(program, number, audit=audit) == expected, number


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from(list(ARCHITECTURES)))
def test_programs_of_another_architecture_are_ended(audit: int, number: int, machine: str) -> None:
    program = PROGRAMS[machine]
    if audit != ARCHITECTURES[machine]:
        assert decided(program, number, audit=audit) == KILL
    else:
        assert decided(program, number, audit=audit) != KILL


@given(st.integers(0x40000000, 2**32 - 1))
def test_calls_of_x32_are_not_there(number: int) -> None:
    assert decided(PROGRAMS["x86_64"], number) == refused(errno.ENOSYS)


@given(st.integers(0, 2**64 - 1), st.sampled_from(list(ARCHITECTURES)))
def test_a_clone_is_refused_exactly_where_it_makes_a_namespace(flags: int, machine: str) -> None:
    number = {"x86_64": 56, "aarch64": 220}[machine]
    makes = any(flags >> bit & 1 for bit in (17, 25, 26, 27, 28, 29, 30))
    expected = refused(errno.EPERM) if makes else ALLOW
    assert decided(PROGRAMS[machine], number, (flags,), ARCHITECTURES[machine]) == expected


@given(st.integers(0, 50), st.integers(0, 25))
def test_sockets_are_those_that_end_at_the_network_namespace(family: int, protocol: int) -> None:
    allowed = family in {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6} or (family, protocol) == (16, 0)
    answer = decided(PROGRAMS["x86_64"], 41, (family, 1, protocol))
    assert answer == (ALLOW if allowed else refused(errno.EAFNOSUPPORT))


@given(st.integers(0, 0o7777), st.sampled_from([(90, 1), (91, 1), (268, 2), (85, 1), (259, 2)]))
def test_the_set_user_id_bit_is_refused_wherever_a_mode_is_given(mode: int, call: tuple[int, int]) -> None:
    number, place = call
    arguments = [0] * place + [mode]
    expected = refused(errno.EPERM) if mode & 0o4000 else ALLOW
    assert decided(PROGRAMS["x86_64"], number, tuple(arguments)) == expected


@given(st.integers(0, 0o7777), st.booleans())
def test_a_mode_counts_where_a_file_is_created_alone(mode: int, creates: bool) -> None:
    flags = os.O_CREAT | os.O_WRONLY if creates else os.O_RDONLY
    answer = decided(PROGRAMS["x86_64"], 257, (0, 0, flags, mode))
    assert answer == (refused(errno.EPERM) if creates and mode & 0o4000 else ALLOW)


@pytest.mark.parametrize(("request_code", "is_refused"), [(0x5412, True), (0x541C, True), (0x5413, False)])
def test_no_words_are_put_into_a_terminal(request_code: int, is_refused: bool) -> None:
    high = 1 << 40  # the kernel looks at the lower half alone, and so must the filter
    answer = decided(PROGRAMS["x86_64"], 16, (0, request_code | high))
    assert answer == (refused(errno.EPERM) if is_refused else ALLOW)


@given(
    st.one_of(st.integers(0, 2**33), st.just(1), st.just(1 | 1 << 32)), st.sampled_from([(101, 1), (310, 0), (311, 0)])
)
def test_every_process_but_the_first_may_be_traced(process: int, call: tuple[int, int]) -> None:
    number, place = call
    arguments = [0] * place + [process]
    expected = refused(errno.EPERM) if process & 0xFFFFFFFF == 1 else ALLOW
    assert decided(PROGRAMS["x86_64"], number, tuple(arguments)) == expected


def test_memory_without_a_process_is_refused_where_no_group_bounds_it() -> None:
    assert decided(PROGRAMS["x86_64"], 319) == ALLOW
    assert decided(loaded("x86_64", bounded=False), 319) == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_numbers_of_calls_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("no headers of the kernel")
    text = HEADERS[machine].read_text("utf-8")
    told = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)\b", text)}
    column = list(ARCHITECTURES).index(machine)
    tables = (seccomp._REFUSED, seccomp._ABSENT, seccomp._NAMELESS, seccomp._MODES, seccomp._CREATING, seccomp._TRACING)
    ours = {name: row[column] for table in tables for name, row in table.items() if row[column] is not None}
    assert len(set(ours) & set(told)) > 40
    assert {name: number for name, number in ours.items() if name in told and told[name] != number} == {}
