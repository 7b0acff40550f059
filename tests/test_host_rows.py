"""Which rows a process answers for, and how all of them come to know of all rows."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from stepjax import host_rows as module
from stepjax.host_rows import HostRows
from stepjax.parallel import batch_sharding, fetch, make_mesh, put


def test_alone_all_rows_are_one_s_own():
    mesh = make_mesh(2, 2, 2)
    hosts = HostRows(mesh, 8)
    assert hosts.mine.tolist() == list(range(8)) and not hosts.shared
    values = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    placed = put(values, batch_sharding(mesh))
    np.testing.assert_array_equal(hosts.local({"x": placed})["x"], values)
    np.testing.assert_array_equal(fetch(hosts.put({"x": values})["x"]), values)
    assert hosts.put(values).sharding == batch_sharding(mesh)
    assert hosts.gather(values) is values
    assert hosts.exchange(["a"] * 8) == ["a"] * 8


class Pod:
    """Processes that take turns: the rows' places are given, the bytes that they share are handed around."""

    def __init__(self, monkeypatch, places: dict[tuple[int, int], slice], count: int):
        devices = {_Device(p, d): (rows,) for (p, d), rows in places.items()}
        sharding = SimpleNamespace(devices_indices_map=lambda shape: devices)
        self.patch, self.count = monkeypatch, count
        self.processes = 1 + max(p for p, _ in places)
        monkeypatch.setattr(module, "batch_sharding", lambda mesh: sharding)
        monkeypatch.setattr(jax, "process_count", lambda: self.processes)

    def each(self) -> list[HostRows]:
        found = []
        for p in range(self.processes):
            self.patch.setattr(jax, "process_index", lambda p=p: p)
            found.append(HostRows(None, self.count))
        return found

    def share(self, calls):
        """The results of calls that share bytes: each is made once to see what it sends, and again with all answers."""
        sent: list[bytes] = []

        class SentError(Exception):
            pass

        def send(payload):
            sent.append(payload)
            raise SentError

        self.patch.setattr(module, "share_bytes", send)
        for call in calls:
            with pytest.raises(SentError):
                call()
        self.patch.setattr(module, "share_bytes", lambda payload: list(sent))
        return [call() for call in calls]


class _Device:
    def __init__(self, process_index: int, number: int):
        self.process_index, self.number = process_index, number


@pytest.mark.parametrize(
    ("places", "mine", "shared"),
    [
        ({(0, 0): slice(0, 2), (0, 1): slice(2, 4), (1, 2): slice(4, 6), (1, 3): slice(6, 8)}, [4, 4], False),
        # Rows in turns: the order of the devices is not that of the processes.
        ({(0, 0): slice(0, 2), (1, 1): slice(2, 4), (0, 2): slice(4, 6), (1, 3): slice(6, 8)}, [4, 4], False),
        # A tensor axis over both processes: the first answers for all.
        ({(0, 0): slice(0, 8), (1, 1): slice(0, 8)}, [8, 0], True),
        ({(0, 0): slice(0, 4), (1, 1): slice(0, 4), (1, 2): slice(4, 8), (2, 3): slice(4, 8)}, [4, 4, 0], True),
    ],
)
def test_each_row_has_one_process_and_all_learn_of_it(monkeypatch, places, mine, shared):
    pod = Pod(monkeypatch, places, 8)
    hosts = pod.each()
    assert [len(h.mine) for h in hosts] == mine
    assert sorted(int(r) for h in hosts for r in h.mine) == list(range(8))
    assert all(h.shared == shared for h in hosts)
    values = np.arange(16, dtype=np.int32).reshape(8, 2)
    for whole in pod.share([lambda h=h: h.gather(values[h.mine]) for h in hosts]):
        np.testing.assert_array_equal(whole, values)
    texts = [f"row {i}: ½" for i in range(8)]
    for known in pod.share([lambda h=h: h.exchange([texts[i] for i in h.mine]) for h in hosts]):
        assert known == texts
