"""What a machine is, by files as systems write them, by a driver that misbehaves, and by words."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.capacity import cards, host, machine, nvml
from hub.capacity.cards import GIB
from hub.capacity.host import Places
from hub.capacity.machine import Sampler
from hub.capacity.model import Gpu, Machine
from hub.errors import UnknownHardware

MEMINFO = """MemTotal:       65732488 kB
MemFree:         2210024 kB
MemAvailable:   48211960 kB
Buffers:         1043388 kB
Cached:         42102708 kB
"""
CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD Ryzen 9 7950X 16-Core Processor
cpu MHz\t\t: 4491.650
flags\t\t: fpu vme de sse sse2 avx fma avx2 avx512f
"""
NO_DRIVER = nvml.Reading((), "NVIDIA's driver cannot be asked: NVML Shared Library Not Found.")


def system(folder: Path, files: Mapping[str, str | bytes]) -> Places:
    """A tree of /proc and /sys with these files."""
    for name, content in {"proc/meminfo": MEMINFO, "proc/cpuinfo": CPUINFO, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
    (folder / "sys").mkdir(exist_ok=True)
    return Places(folder / "proc", folder / "sys")


def found(places: Places, reading: nvml.Reading = NO_DRIVER, processors: int = 8) -> Machine:
    return machine.detect(places, ask=lambda: reading, allowed=range(processors), measure=lambda: 40e9)


def test_a_plain_machine_without_a_card_is_memory_and_cores(tmp_path: Path) -> None:
    here = found(system(tmp_path, {}))
    assert here.gpu is None
    assert (here.ram, here.ram_free) == (65732488 * 1024, 48211960 * 1024)
    assert here.cores == 8
    assert here.cpu_flops == pytest.approx(8 * 64 * 4491.65e6)
    assert here.ram_bandwidth == pytest.approx(50e9)
    assert len(here.notes) == 1
    assert "measured" in here.notes[0]


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    pairs = {
        f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": f"{number % 4},{number % 4 + 4}\n"
        for number in range(8)
    }
    assert found(system(tmp_path, pairs)).cores == 4


@pytest.mark.parametrize(
    "files",
    [
        {  # version 2, limited two groups further out
            "proc/self/cgroup": "0::/kubepods/pod1/box\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/kubepods/pod1/box/memory.max": "max\n",
            "sys/fs/cgroup/kubepods/pod1/box/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kubepods/pod1/memory.max": "8589934592\n",
            "sys/fs/cgroup/kubepods/pod1/memory.current": "3221225472\n",
            "sys/fs/cgroup/kubepods/pod1/memory.stat": "anon 1073741824\ninactive_file 2147483648\n",
            "sys/fs/cgroup/kubepods/pod1/cpu.max": "250000 100000\n",
        },
        {  # version 1 inside a container, whose path is the host's and is not mounted here
            "proc/self/cgroup": "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "8589934592\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "3221225472\n",
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 2147483648\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    ],
    ids=["version 2", "version 1"],
)
def test_a_container_has_what_its_groups_leave_it_not_what_proc_says(tmp_path: Path, files: dict[str, str]) -> None:
    here = found(system(tmp_path, files))
    assert here.ram == 8 * GIB
    assert here.ram_free == 7 * GIB
    assert here.cores == 2
    assert any("8.0 GiB" in note for note in here.notes)
    assert any("2 cores" in note for note in here.notes)


def test_a_container_with_a_large_limit_has_no_more_than_the_machine_has_left(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(60 * GIB),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
    }
    here = found(system(tmp_path, files))
    assert (here.ram, here.ram_free) == (60 * GIB, 48211960 * 1024)


def test_a_group_without_a_limit_changes_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
    }
    assert found(system(tmp_path, files)).ram == 65732488 * 1024


def test_a_card_of_amd_is_known_by_its_number_and_its_memory(tmp_path: Path) -> None:
    files = {
        "sys/class/drm/card1/device/vendor": "0x1002\n",
        "sys/class/drm/card1/device/device": "0x744c\n",
        "sys/class/drm/card1/device/mem_info_vram_total": "21458059264\n",
        "sys/class/drm/card1/device/mem_info_vram_used": "1073741824\n",
        "sys/class/drm/card1-DP-1/status": "connected\n",
        "sys/class/drm/card0/device/vendor": "0x1002\n",
        "sys/class/drm/card0/device/mem_info_vram_total": "536870912\n",
    }
    card = found(system(tmp_path, files)).gpu
    assert card is not None
    assert (card.name, card.memory, card.free) == ("RX 7900 XT", 21458059264, 20384317440)
    assert card.bandwidth == 800e9


def test_a_card_of_amd_that_stands_in_no_table_is_taken_for_a_usual_one_and_that_is_said(tmp_path: Path) -> None:
    files = {
        "sys/class/drm/card0/device/vendor": "0x1002\n",
        "sys/class/drm/card0/device/device": "0x9999\n",
        "sys/class/drm/card0/device/mem_info_vram_total": str(16 * GIB),
    }
    here = found(system(tmp_path, files))
    assert here.gpu is not None
    assert any("0x9999" in note for note in here.notes)
    assert any("assumed" in note for note in here.notes)


def test_a_card_whose_memory_nobody_tells_is_named_as_such(tmp_path: Path) -> None:
    here = found(system(tmp_path, {"sys/class/drm/card0/device/vendor": "0x8086\n"}))
    assert here.gpu is None
    assert any("--gpu" in note for note in here.notes)


def test_nvidia_s_card_without_its_driver_is_a_note_and_no_card_is_none(tmp_path: Path) -> None:
    assert not any("driver" in note for note in found(system(tmp_path / "a", {})).notes)
    seen = system(tmp_path / "b", {"sys/class/drm/card0/device/vendor": "0x10de\n"})
    assert any("driver" in note for note in found(seen).notes)


def test_cards_of_nvidia_are_one_with_the_memory_of_all(tmp_path: Path) -> None:
    each = nvml.Card("NVIDIA GeForce RTX 3090", 24 * GIB, 2 * GIB, 936.1e9, 0.0, 31.5e9)
    here = found(system(tmp_path, {}), nvml.Reading((each, each)))
    assert here.gpu == Gpu("NVIDIA GeForce RTX 3090", 48 * GIB, 44 * GIB, 936.1e9, 142.3e12, 31.5e9, 2)


def test_a_card_that_shares_the_host_s_memory_is_unified(tmp_path: Path) -> None:
    here = found(system(tmp_path, {}), nvml.Reading((nvml.Card("NVIDIA GB10", 0, 0),)))
    assert here.unified
    assert here.gpu is not None
    assert here.gpu.memory < here.ram
    assert here.ram_bandwidth == here.gpu.bandwidth == 273e9


def test_an_apple_machine_tells_by_sysctl(tmp_path: Path) -> None:
    told = {
        "hw.memsize": (64 * GIB).to_bytes(8, "little"),
        "hw.pagesize": (16384).to_bytes(8, "little"),
        "vm.page_free_count": (1 << 20).to_bytes(4, "little"),
        "machdep.cpu.brand_string": b"Apple M3 Max\0",
        "hw.perflevel0.physicalcpu": (6).to_bytes(4, "little"),
    }
    here = found(Places(tmp_path, tmp_path, lambda name: told.get(name, b"")))
    assert here.unified
    assert here.gpu is not None
    assert (here.gpu.name, here.gpu.bandwidth, here.gpu.memory) == ("Apple M3 Max", 400e9, 48 * GIB)
    assert (here.ram, here.ram_free, here.cores) == (64 * GIB, 16 * GIB, 6)


def test_a_machine_that_tells_nothing_is_described_as_unknown(tmp_path: Path) -> None:
    here = found(Places(tmp_path, tmp_path))
    assert (here.gpu, here.ram, here.ram_free) == (None, 0, 0)
    assert any("--ram" in note for note in here.notes)


def module(locator: str, transfers: int, size: int = 16384, kind: int = 17) -> bytes:
    """A structure of SMBIOS for one module of memory, or another one."""
    body = bytearray(0x28)
    body[0:2] = bytes((kind, len(body)))
    body[0x08:0x0A] = body[0x0A:0x0C] = (64).to_bytes(2, "little")
    body[0x0C:0x0E] = size.to_bytes(2, "little")
    body[0x10] = 1
    body[0x15:0x17] = (transfers + 400).to_bytes(2, "little")
    body[0x20:0x22] = transfers.to_bytes(2, "little")
    return bytes(body) + locator.encode() + b"\0\0"


def test_bandwidth_is_that_of_the_channels_where_the_firmware_may_be_read(tmp_path: Path) -> None:
    table = module("", 0, kind=16) + b"".join(
        module(f"Channel{channel}-DIMM{slot}", 5200, size=0 if slot == 1 and channel == "B" else 16384)
        for channel in "AB"
        for slot in (0, 1)
    )
    here = found(system(tmp_path, {"sys/firmware/dmi/tables/DMI": table}))
    assert here.ram_bandwidth == pytest.approx(2 * 8 * 5200e6)
    assert not here.notes


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_firmware_table_is_read_or_left(noise: bytes, cut: int) -> None:
    table = (noise + module("DIMM_A1", 3200) + noise)[:cut]
    for one in host._structures(table):
        assert one[0] in range(256)


def test_this_machine_is_found_within_its_own_limits() -> None:
    here = machine.detect()
    assert 0 < here.ram_free <= here.ram
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.ram_bandwidth > 0
    assert here.cpu_flops > 0


# Words.


@pytest.mark.parametrize(
    ("words", "name", "gigabytes", "count", "bandwidth"),
    [
        ("RTX 4080 16GB", "RTX 4080", 16, 1, 717e9),
        ("4080", "RTX 4080", 16, 1, 717e9),
        ("rtx4080 16 GB", "RTX 4080", 16, 1, 717e9),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 1, 1008e9),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop", 16, 1, 576e9),
        ("2x RTX 3090", "RTX 3090", 48, 2, 936e9),
        ("2x 3090", "RTX 3090", 48, 2, 936e9),
        ("RTX 3090 x2", "RTX 3090", 48, 2, 936e9),
        ("3060 12", "RTX 3060", 12, 1, 360e9),
        ("RTX 3060 8GB", "RTX 3060", 8, 1, 240e9),
        ("5060 Ti 16GB", "RTX 5060 Ti", 16, 1, 448e9),
        ("NVIDIA A100-SXM4-80GB", "A100", 80, 1, 2039e9),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe", 40, 1, 1555e9),
        ("Tesla V100-PCIE-16GB", "Tesla V100", 16, 1, 900e9),
        ("8x H100 80GB HBM3", "H100", 640, 8, 3350e9),
        ("RTX PRO 6000", "RTX PRO 6000 Blackwell", 96, 1, 1792e9),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 48, 1, 960e9),
        ("Quadro RTX 6000", "Quadro RTX 6000", 24, 1, 672e9),
        ("A6000", "RTX A6000", 48, 1, 768e9),
        ("AMD Radeon RX 7900 XTX", "RX 7900 XTX", 24, 1, 960e9),
        ("mi300x", "Instinct MI300X", 192, 1, 5300e9),
        ("Arc A770 16GB", "Arc A770", 16, 1, 560e9),
        ("16GB", "a card of 16 GB", 16, 1, 448e9),
    ],
)
def test_a_card_is_read_as_people_write_it(words: str, name: str, gigabytes: int, count: int, bandwidth: float) -> None:
    card = machine.described(words, "32GB").gpu
    assert card is not None
    assert (card.name, card.memory, card.count) == (name, gigabytes * GIB, count)
    assert card.bandwidth == pytest.approx(bandwidth)
    assert card.free == card.memory
    assert card.link > 0


@pytest.mark.parametrize(
    ("words", "gigabytes", "bandwidth"),
    [("M3 Max 64GB", 64, 400e9), ("M3 Max 36GB", 36, 300e9), ("Apple M4 Max 128GB", 128, 546e9), ("m2 24", 24, 100e9)],
)
def test_a_machine_with_one_memory_for_all_takes_its_size_from_the_card(
    words: str, gigabytes: int, bandwidth: float
) -> None:
    here = machine.described(words, "16GB" if "64" in words else None)
    assert here.unified
    assert here.ram == gigabytes * GIB
    assert here.gpu is not None
    assert here.gpu.memory < here.ram
    assert here.ram_bandwidth == here.gpu.bandwidth == bandwidth


@pytest.mark.parametrize(
    ("words", "gigabytes", "bandwidth"),
    [
        ("32GB", 32, 89.6e9),
        ("32", 32, 89.6e9),
        ("64G DDR5-5600", 64, 89.6e9),
        ("64GB DDR5 6000", 64, 96e9),
        ("2x16GB DDR4", 32, 51.2e9),
        ("256GB DDR4-3200 8 channels", 256, 204.8e9),
        ("16 GB DDR4-3200 single", 16, 25.6e9),
        ("1TB", 1024, 89.6e9),
        ("0", 0, 0.0),
    ],
)
def test_main_memory_is_read_as_people_write_it(words: str, gigabytes: int, bandwidth: float) -> None:
    here = machine.described("none", words)
    assert here.gpu is None
    assert here.ram == here.ram_free == gigabytes * GIB
    assert here.ram_bandwidth == pytest.approx(bandwidth)


def test_what_is_not_said_of_a_described_machine_is_noted() -> None:
    notes = " ".join(machine.described("16GB", "32GB").notes)
    for assumed in ("448 GB/s", "DDR5-5600", "2 channels", "8 cores"):
        assert assumed in notes


@pytest.mark.parametrize(
    ("gpu", "ram", "hint"),
    [
        ("RTX 4085", "32GB", "RTX 4080"),
        ("RTX 4080 12GB", "32GB", "16 GB"),
        ("potato", "32GB", "A size alone"),
        ("0x RTX 4090", "32GB", "2x RTX 3090"),
        ("4090", "plenty", "32GB"),
        ("4090", "32GB DDR5-99999", "channels"),
    ],
)
def test_words_that_describe_nothing_are_refused_with_a_way_out(gpu: str, ram: str, hint: str) -> None:
    with pytest.raises(UnknownHardware) as refusal:
        machine.described(gpu, ram)
    assert hint in refusal.value.hint


@given(st.text(max_size=40))
def test_any_words_are_a_machine_or_refused(words: str) -> None:
    for read in (cards.graphics, cards.modules):
        with contextlib.suppress(UnknownHardware):
            found = read(words)
            assert found is None or isinstance(found, (cards.Graphics, cards.Modules))


def test_every_card_of_the_table_is_found_by_its_own_name_and_size() -> None:
    for facts in cards.table():
        for size in facts.sizes:
            found = cards.graphics(f"{facts.name} {size // GIB}GB")
            assert found is not None
            assert (found.facts.name, found.memory) == (facts.name, size)
            assert facts.bandwidth > 50e9
            assert facts.flops > 1e12


def test_the_table_has_no_card_whose_speed_and_bandwidth_cannot_belong_together() -> None:
    """Operations a byte lie between those of the GTX 1050 Ti and of cards made for matrices."""
    for facts in cards.table():
        assert 10 < facts.flops / facts.bandwidth < 600, facts.name


# NVIDIA's driver. The library is scripted; where the real one is, it is asked as well.


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


@dataclass
class Scripted:
    """Stands for ``pynvml``: one entry for each card, or an error that a call ends in."""

    cards: list[dict[str, Any]]
    fails: dict[str, Exception]

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVML_CLOCK_MEM = 2
    NVML_CLOCK_SM = 1
    closed = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if name in self.fails:
                raise self.fails[name]
            if name == "nvmlInit":
                return None
            if name == "nvmlShutdown":
                self.closed += 1
                return None
            if name == "nvmlDeviceGetCount":
                return len(self.cards)
            if name == "nvmlDeviceGetHandleByIndex":
                return self.cards[arguments[0]]
            answer = arguments[0].get(name)
            if name == "nvmlDeviceGetMaxClockInfo":
                answer = arguments[0].get(f"clock {arguments[1]}")
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                raise NotSupported("Not Supported")
            return answer

        return call


def card(**more: Any) -> dict[str, Any]:
    memory = SimpleNamespace(total=16376 * 1024 * 1024, used=GIB, free=15 * GIB)
    return {
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 4080",
        "nvmlDeviceGetMemoryInfo": memory,
        "clock 2": 11201,
        "nvmlDeviceGetMemoryBusWidth": 256,
        "nvmlDeviceGetMaxPcieLinkGeneration": 4,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetCudaComputeCapability": (8, 9),
        "nvmlDeviceGetNumGpuCores": 9728,
        "clock 1": 2505,
        **more,
    }


def asked(cards: list[dict[str, Any]], **fails: Exception) -> nvml.Reading:
    library: Any = Scripted(cards, fails)
    with nvml.Nvml(library, timeout_s=5) as connection:
        return connection.read()


def test_a_card_of_nvidia_tells_its_memory_speed_and_link() -> None:
    [read] = asked([card()]).cards
    assert (read.name, read.memory, read.used) == ("NVIDIA GeForce RTX 4080", 16376 << 20, GIB)
    assert read.bandwidth == pytest.approx(717e9, rel=0.001)
    assert read.flops == pytest.approx(194.9e12, rel=0.001)
    assert read.link == pytest.approx(31.5e9, rel=0.001)


def test_a_card_that_tells_only_its_memory_is_still_a_card() -> None:
    bare = {key: value for key, value in card().items() if key in {"nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo"}}
    [read] = asked([bare]).cards
    assert (read.memory, read.bandwidth, read.link) == (16376 << 20, 0.0, 0.0)


def test_a_partitioned_card_is_left_alone_and_said_to_be_one() -> None:
    reading = asked([card(nvmlDeviceGetMigMode=(1, 1))])
    assert len(reading.cards) == 1
    assert "MIG" in reading.note


def test_a_card_that_fell_off_the_bus_leaves_the_others() -> None:
    reading = asked([card(nvmlDeviceGetName=NVMLError("GPU is lost")), card()])
    assert len(reading.cards) == 1
    assert "GPU is lost" in reading.note


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount"])
@pytest.mark.parametrize(
    "failure", [NVMLError("Driver/library version mismatch"), OSError("libnvidia-ml.so.1: cannot open")]
)
def test_a_driver_that_fails_is_a_note(call: str, failure: Exception) -> None:
    reading = asked([card()], **{call: failure})
    assert reading.cards == ()
    assert str(failure) in reading.note


def test_a_driver_without_a_card_is_a_note() -> None:
    assert "no card" in asked([]).note


def test_a_driver_that_never_answers_is_left_behind_in_time() -> None:
    release = threading.Event()
    library: Any = Scripted([card()], {})
    library.nvmlInit = release.wait
    connection = nvml.Nvml(library, timeout_s=0.05)
    try:
        reading = connection.read()
    finally:
        release.set()
    assert reading.cards == ()
    assert "did not answer" in reading.note


def test_a_connection_is_closed_once() -> None:
    library: Any = Scripted([card()], {})
    with nvml.Nvml(library) as connection:
        connection.read()
    connection.close()
    assert library.closed == 1
    assert connection.read().cards == ()


def test_the_real_library_answers_with_cards_or_says_why_not() -> None:
    reading = nvml.cards()
    assert reading.cards or reading.note


# Samples.


@pytest.fixture
def quiet() -> Iterator[nvml.Nvml]:
    library: Any = Scripted([card(), card()], {})
    with nvml.Nvml(library) as connection:
        yield connection


def process(number: int, parent: int, pages: int, command: str) -> dict[str, str]:
    return {
        f"proc/{number}/stat": f"{number} (a (strange) name) S {parent} 1 1 0 -1 0\n",
        f"proc/{number}/statm": f"999999 {pages} 10 1 0 1 0\n",
        f"proc/{number}/cmdline": command,
    }


def test_a_sample_adds_cards_and_a_process_with_its_descendants(tmp_path: Path, quiet: nvml.Nvml) -> None:
    places = system(
        tmp_path,
        {
            **process(10, 1, 100, "/usr/bin/ollama\0serve\0"),
            **process(11, 10, 2000, "/usr/lib/ollama/llama-server\0--port\x0043211\0"),
            **process(12, 11, 5, "sh\0"),
            **process(13, 1, 7000, "/usr/bin/other\0"),
        },
    )
    with Sampler([10], places=places, connection=quiet) as sampler:
        sample = sampler.sample()
    page = os.sysconf("SC_PAGE_SIZE")
    assert sample.rss == 2105 * page
    assert (sample.gpu_used, sample.gpu_total) == (2 * GIB, 2 * (16376 << 20))
    assert sample.gpus == ((GIB, 16376 << 20), (GIB, 16376 << 20))
    assert sample.ram_used == (65732488 - 48211960) * 1024


def test_processes_are_found_by_their_program_and_asked_for_their_options(tmp_path: Path) -> None:
    places = system(
        tmp_path,
        {
            **process(10, 1, 1, "/usr/bin/ollama\0serve\0"),
            **process(11, 10, 1, "/usr/lib/llama-server\0--port\x0043211\0--ctx-size=4096\0"),
            **process(14, 1, 1, "grep\0llama-server\0"),
        },
    )
    assert host.named(places, re.compile("llama-server")) == (11,)
    assert host.argument(places, 11, "--port") == "43211"
    assert host.argument(places, 11, "--ctx-size") == "4096"
    assert host.argument(places, 11, "--host") == ""
    assert host.argument(places, 99, "--port") == ""


def test_a_process_that_ended_counts_nothing(tmp_path: Path) -> None:
    assert host.resident(system(tmp_path, {}), [4711]) == 0


def test_a_sample_of_this_process_holds_what_it_holds() -> None:
    with Sampler(lambda: [os.getpid()]) as sampler:
        sample = sampler.sample()
    assert sample.rss > 1 << 20
    assert 0 < sample.ram_used < sample.ram_total
