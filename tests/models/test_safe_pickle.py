"""Model files are read as arrays; a pickle that wants anything else is refused, and nothing of it runs."""

import io
import os
import pickle
import pickletools
import sys
import types

import numpy as np
import pytest
import scipy.sparse

from avatar3d.errors import FileError, FormatError
from avatar3d.models.safe_pickle import Record, read_arrays


def arrays() -> dict:
    rng = np.random.default_rng(0)
    regressor = scipy.sparse.random(5, 40, 0.2, format="csc", random_state=1)
    return {
        "v_template": rng.normal(size=(40, 3)),
        "f": rng.integers(0, 40, (70, 3)).astype(np.uint32),
        "fortran": np.asfortranarray(rng.normal(size=(4, 5)).astype(np.float32)),
        "big_endian": rng.normal(size=6).astype(">f8"),
        "empty": np.zeros((0, 3)),
        "J_regressor": regressor,
        "coo": regressor.tocoo(),
        "csr": regressor.tocsr(),
        "scalar": np.float64(0.25),
        "bs_type": "lrotmin",
    }


def assert_same(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if scipy.sparse.issparse(value):
            assert scipy.sparse.issparse(actual[name])
            np.testing.assert_array_equal(actual[name].toarray(), value.toarray())
        else:
            np.testing.assert_array_equal(actual[name], value)
            if isinstance(value, np.ndarray):
                assert actual[name].dtype == value.dtype and actual[name].flags.writeable


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(tmp_path, protocol):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(arrays(), protocol))
    assert_same(read_arrays(path), arrays())


def test_python_2_module_names_and_text_data(tmp_path):
    """What Python 2 writes: copy_reg, __builtin__, and array data as latin-1 text (here by hand, protocol 0)."""
    data = np.arange(130, 136, dtype="<i2").tobytes().decode("latin1")
    text = (
        "(dS'weights'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        "(I1\n(I2\nI3\ntcnumpy\ndtype\n(S'i2'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        f"S{data!r}\ntbs."
    )
    path = tmp_path / "m.pkl"
    path.write_bytes(text.encode("latin1"))
    np.testing.assert_array_equal(read_arrays(path)["weights"], np.arange(130, 136).reshape(2, 3))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_chumpy_without_chumpy(tmp_path, monkeypatch, protocol):
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, **state):
            self.__dict__.update(state)

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch
    x = np.arange(12.0).reshape(4, 3)
    select = Ch(a=Ch(x=x), idxs=np.array([0, 5, 7, 2]), preferred_shape=(2, 2))
    value = {"shapedirs": Ch(x=x, _dirty_vars=set()), "select": select, "sum": Ch(a=Ch(x=x), b=Ch(x=x))}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
        patch.setitem(sys.modules, "chumpy.ch", module)
        data = pickle.dumps(value, protocol)
    path = tmp_path / "m.pkl"
    path.write_bytes(data)
    read = read_arrays(path)
    assert "chumpy" not in sys.modules
    np.testing.assert_array_equal(read["shapedirs"], x)
    np.testing.assert_array_equal(read["select"], [[0, 5], [7, 2]])
    assert isinstance(read["sum"], Record)


def test_npz_with_a_sparse_matrix(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, **arrays())
    expected = arrays()
    actual = read_arrays(path)
    assert str(actual.pop("bs_type")) == expected.pop("bs_type")
    assert_same(actual, expected)


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile(marker) -> dict:
    inst = f"(S'touch {marker}'\nios\nsystem\n."
    stack = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."
    return {
        "os.system": pickle.dumps({"f": Call(os.system, f"touch {marker}")}),
        "eval": pickle.dumps({"f": Call(eval, f"open({str(marker)!r}, 'w')")}),
        "getattr": pickle.dumps({"f": Call(getattr, "text", "format")}),
        "open": pickle.dumps({"f": Call(io.open, str(marker), "w")}),
        "numpy.load": pickle.dumps({"f": Call(np.load, str(marker))}),
        "numpy function": pickle.dumps({"f": Call(np.fromfile, str(marker))}),
        "scipy function": pickle.dumps({"f": Call(scipy.sparse.load_npz, str(marker))}),
        "INST": inst.encode(),
        "STACK_GLOBAL": stack,
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
        "nested pickle": pickle.dumps({"f": Call(pickle.loads, b"N.")}),
        "extension": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x04\x8c\x01aQ.",
        "object array": pickle.dumps({"a": np.array([Call(os.system, f"touch {marker}"), 1], dtype=object)}),
        "objects": pickle.dumps({"a": np.array([1, "a"], dtype=object)}),
        "encoding": pickle.dumps({"f": Call(__import__("_codecs").encode, "x", "rot13")}),
    }


@pytest.mark.parametrize("kind", hostile("x"))
def test_anything_else_is_refused_and_does_not_run(tmp_path, monkeypatch, kind):
    marker = tmp_path / "ran"
    data = hostile(marker)[kind]
    ran = []
    for function in ("system", "popen"):
        monkeypatch.setattr(os, function, lambda *a: ran.append(a))
    path = tmp_path / "m.pkl"
    path.write_bytes(data)
    with pytest.raises(FormatError, match="asks for|damaged"):
        read_arrays(path)
    assert not marker.exists() and not ran


def test_the_hostile_files_would_run_with_pickle(tmp_path):
    """The test above can fail: plain pickle runs the very same bytes."""
    marker = tmp_path / "ran"
    pickle.loads(hostile(marker)["os.system"])  # noqa: S301
    assert marker.exists()


def test_hostile_npz(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "m.npz"
    np.savez(path, f=np.array(Call(os.system, f"touch {marker}"), dtype=object))
    with pytest.raises(FormatError, match="asks for `posix.system`"):
        read_arrays(path)
    assert not marker.exists()


def test_truncated_and_random_files(tmp_path):
    path = tmp_path / "m.pkl"
    whole = pickle.dumps(arrays(), 2)
    assert pickletools.optimize(whole)  # it is a whole pickle
    for data in (whole[:100], whole[: len(whole) // 2], b"", b"PK\x03\x04junk", b"not a pickle at all", b"\x00" * 64):
        path.write_bytes(data)
        with pytest.raises(FormatError):
            read_arrays(path)
    with pytest.raises(FileError, match="does not exist"):
        read_arrays(tmp_path / "none.pkl")
