"""Data and configurations of people whose files one would not run: what they are is looked at first, no
other file is read through them, and none takes more memory than it may."""

import json
import os
import resource
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

import varpro as vp
from varpro import InputError
from varpro.app.config.document import load
from varpro.app.data import formats
from varpro.app.data.formats import read_arrays
from varpro.app.data.from_cube import open_cube
from varpro.app.plan.make_plan import make_plan
from varpro.app.regular_files import read_whole

T = np.linspace(0.0, 6.0, 25)
Y = 3 * np.exp(-T / 2.0) + 0.5
GIGANTIC = (2**29,)  # 4 GiB of float64


def plan_of(folder, name, more=""):
    (folder / "fit.yaml").write_text(
        f"data: {{path: {name}, x: t, y: y{more}}}\nmodel:\n  decay: {{kind: exp, tau: 1.0}}\n"
    )
    return make_plan(str(folder / "fit.yaml"))


@pytest.fixture
def frugal():
    """No more than half a gigabyte above what this process has, so that nothing large is made unseen."""
    if sys.platform != "linux":
        pytest.skip("the limit on memory is one of Linux")
    used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


# Other files behind the names of a file.


@pytest.fixture
def secret(tmp_path):
    """A file of somebody's that no configuration names."""
    path = tmp_path / "secret"
    path.write_bytes(np.arange(25.0).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["y"] = np.arange(25.0)
    return path


def external_storage(file, secret):
    file.create_dataset("y", (25,), "f8", external=[(str(secret), 0, 200)])


def external_link(file, secret):
    file["y"] = h5py.ExternalLink("other.h5", "/y")


def external_link_in_a_group(file, secret):
    file["y"] = Y
    file.create_group("more")["deep"] = h5py.ExternalLink("/etc/other.h5", "/y")


def soft_link_through_an_external_one(file, secret):
    file["out"] = h5py.ExternalLink("other.h5", "/")
    file["y"] = h5py.SoftLink("/out/y")


def virtual(file, secret):
    layout = h5py.VirtualLayout((25,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "y", (25,))
    file.create_virtual_dataset("y", layout)


@pytest.mark.parametrize("ending", ["h5", "nc", "mat"])
@pytest.mark.parametrize(
    "make",
    [
        *(external_storage, external_link, external_link_in_a_group),
        *(soft_link_through_an_external_one, virtual),
    ],
)
def test_hdf5_that_leads_to_another_file_is_not_read(tmp_path, secret, make, ending):
    name = f"data.{ending}"
    head = b"MATLAB 7.3 MAT-file".ljust(512) if ending == "mat" else b""
    with h5py.File(tmp_path / name, "w", userblock_size=len(head)) as file:
        file["t"] = T
        make(file, secret)
    with (tmp_path / name).open("rb+") as file:
        file.write(head)
    for read in (
        lambda: plan_of(tmp_path, name),
        lambda: plan_of(tmp_path, name, "}\nfit: {share: none").columns,
    ):
        with pytest.raises(InputError, match="is kept in another file .*Copy the numbers into one"):
            read()


def test_links_within_a_file_are_no_reason_to_refuse_it(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["t"], file["y"] = T, Y
        file.create_group("a").create_group("b")["up"] = file  # a circle
        file["a/again"], file["a/soft"] = file["y"], h5py.SoftLink("/y")
        file["dangling"] = h5py.SoftLink("/nowhere")
    np.testing.assert_array_equal(plan_of(tmp_path, "data.h5").columns.y, Y)


def test_groups_may_be_nested_deeper_than_calls(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["t"], file["y"], group = T, Y, file
        for _ in range(3000):
            group = group.create_group("g")
    np.testing.assert_array_equal(plan_of(tmp_path, "data.h5").columns.y, Y)


def zarr_of(folder, **changes):
    dataset = xr.Dataset({"y": ("t", Y)}, {"t": T})
    dataset.to_zarr(folder / "data.zarr", zarr_format=2, consolidated=False)
    metadata = folder / "data.zarr/y/.zarray"
    content = json.loads(metadata.read_text()) | changes
    metadata.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "changes",
    [
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "pickle", "protocol": 4}]},
        {"filters": [{"id": "their.codec"}]},
    ],
)
def test_zarr_with_a_codec_that_could_run_code_is_not_opened(tmp_path, monkeypatch, changes):
    pytest.importorskip("zarr")
    zarr_of(tmp_path, **changes)
    monkeypatch.setattr(formats.xr, "open_zarr", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(InputError, match="'y' is packed with '(pickle|their.codec)', which is not"):
        plan_of(tmp_path, "data.zarr")


def test_zarr_with_links_out_of_its_folder_is_not_read(tmp_path, secret):
    pytest.importorskip("zarr")
    zarr_of(tmp_path)
    chunk = tmp_path / "data.zarr/y/0"
    chunk.unlink()
    chunk.symlink_to(secret)
    with pytest.raises(InputError, match="data.zarr/y/0: data: is a link that leads out"):
        plan_of(tmp_path, "data.zarr")


def test_tiff_with_pages_in_another_file_is_not_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    planes = np.arange(2 * 4 * 5, dtype=np.uint16).reshape(2, 4, 5)
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", planes[i], metadata=None)
    sets = "".join(
        f'<TiffData FirstT="{i}" IFD="0" PlaneCount="1"><UUID FileName="{i}.ome.tif">urn:uuid:'
        f"00000000-0000-0000-0000-00000000000{i}</UUID></TiffData>"
        for i in range(2)
    )
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:00000000-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint16" SizeX="5" SizeY="4" SizeC="1" SizeZ="1" SizeT="2">'
        f"{sets}</Pixels></Image></OME>"
    )
    tifffile.imwrite(tmp_path / "0.ome.tif", planes[0], description=text, metadata=None)
    path = tmp_path / "0.ome.tif"
    assert tifffile.imread(path).shape == (2, 4, 5)  # it would be read
    for read in (read_arrays, lambda path: open_cube(path, None, "t")):
        with pytest.raises(InputError, match="has pages in another file .*1.ome.tif"):
            read(path)


def test_no_module_beside_the_data_is_taken_for_one_of_python(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "data.mat", {"t": T, "y": Y})
    for name in ("numpy", "scipy", "json"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(plan_of(tmp_path, "data.mat").columns.y, Y)
    assert not (tmp_path / "ran").exists()


SAVED = Path(__file__).parents[1] / "saved" / "format_1.zip"


def linked(file, raw):
    file["value"] = h5py.ExternalLink("other.h5", "/y")


def linked_inside(file, raw):
    file["away"] = raw
    file["value"] = h5py.SoftLink("/away")


def stored_outside(file, raw):
    file.create_dataset("value", raw.shape, "f8", external=[("secret", 0, raw.nbytes)])


def never_written(file, raw):
    file.create_dataset("value", raw.shape, "f8", chunks=raw.shape)


@pytest.mark.parametrize("spoil", [linked, linked_inside, stored_outside, never_written])
def test_a_saved_fit_reads_no_other_file_and_nothing_that_is_not_there(tmp_path, secret, spoil):
    with zipfile.ZipFile(SAVED) as files:
        name = next(n for n in files.namelist() if not n.startswith(("global", "batch", "modes")))
        path = files.extract(name, tmp_path)
    vp.load(path)
    with h5py.File(path, "r+") as file:
        raw = file["value"][()]
        del file["value"]
        spoil(file, raw)
    with pytest.raises(
        InputError, match="no saved fit .'value' is (a link|kept in another|not stor)"
    ):
        vp.load(path)


# Arrays that are large, and files that say they are.


def npz(path, **arrays):
    """An archive whose members may be arrays, or the shape of one of zeros, packed to nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                if isinstance(array, tuple):
                    head = {"descr": "<f8", "fortran_order": False, "shape": array}
                    np.lib.format.write_array_header_2_0(stream, head)
                    # Not that many: what counts is what the head says.
                    stream.write(bytes(2**20))
                else:
                    np.lib.format.write_array(stream, array)


def h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if isinstance(array, tuple):
                file.create_dataset(name, array, "f8", chunks=(2**20,), compression="gzip")
            else:
                file[name] = array


def mat73(path, **arrays):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            if isinstance(array, tuple):
                file.create_dataset(name, array, "f8", chunks=(2**20,))
            else:
                file[name] = array
    with path.open("rb+") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))


def netcdf(path, **arrays):
    h5(path, **{name: a for name, a in arrays.items()})
    with h5py.File(path, "r+") as file:
        file["t"].make_scale("t")
        file["y"].dims[0].attach_scale(file["t"])


MAKERS = {"npz": npz, "h5": h5, "mat": mat73}


@pytest.mark.parametrize("ending", MAKERS)
def test_an_array_that_nobody_named_is_not_read(tmp_path, frugal, ending):
    MAKERS[ending](tmp_path / f"data.{ending}", t=T, y=Y, unnamed=GIGANTIC)
    np.testing.assert_array_equal(plan_of(tmp_path, f"data.{ending}").columns.y, Y)


@pytest.mark.parametrize("ending", MAKERS)
def test_an_array_that_is_too_large_is_refused_before_it_is_read(tmp_path, frugal, ending):
    MAKERS[ending](tmp_path / f"data.{ending}", t=T, x=GIGANTIC, y=GIGANTIC)
    expected = (
        r"'y' would take 4294967296 bytes; at most 2147483648 are read\..*VARPRO_MAX_BYTES=5e9"
    )
    (tmp_path / "fit.yaml").write_text(
        f"data: {{path: data.{ending}, x: x, y: y}}\nmodel:\n  decay: {{kind: exp, tau: 1.0}}\n"
    )
    with pytest.raises(InputError, match=expected):
        make_plan(str(tmp_path / "fit.yaml"))


def test_positions_in_netcdf_are_looked_at_before_a_library_reads_them(tmp_path, frugal):
    netcdf(tmp_path / "data.nc", t=GIGANTIC, y=GIGANTIC)
    for read in (read_arrays, lambda path: open_cube(path, "y", "t")):
        with pytest.raises(InputError, match="'t' would take 4294967296 bytes"):
            read(tmp_path / "data.nc")


def test_an_old_mat_file_that_was_packed_small_is_looked_at_first(tmp_path, frugal, monkeypatch):
    # 32 MB of zeros are 32 kB; the limits are set below them, not the memory of the test above.
    monkeypatch.setattr(formats, "_UNASKED", 2**22)
    small = {"t": T, "y": Y}
    scipy.io.savemat(
        tmp_path / "data.mat",
        small | {"zeros": np.zeros(2**21), "x": np.zeros(2**21)},
        do_compression=True,
    )
    assert (tmp_path / "data.mat").stat().st_size < 40_000
    np.testing.assert_array_equal(plan_of(tmp_path, "data.mat").columns.y, Y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARPRO_MAX_BYTES", "1e7")
        (tmp_path / "fit.yaml").write_text(
            "data: {path: data.mat, x: x, y: zeros}\nmodel:\n  decay: {kind: exp, tau: 1.0}\n"
        )
        with pytest.raises(InputError, match="'zeros' would take 16777216 bytes; at most 10000000"):
            make_plan(str(tmp_path / "fit.yaml"))


def test_numbers_of_a_large_mat_file_are_read_when_they_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_UNASKED", 100)
    z = Y[:, None] * np.array([1.0, 2.0])
    scipy.io.savemat(tmp_path / "data.mat", {"t": T, "y": z, "w": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(plan_of(tmp_path, "data.mat").columns.y, z)


def test_compressed_tiff_is_looked_at_first(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 256), np.uint16), compression="zlib")
    monkeypatch.setenv("VARPRO_MAX_BYTES", "30000")
    with pytest.raises(InputError, match="'data' would take 32768 bytes"):
        read_arrays(tmp_path / "a.tif")["data"].load()
    with pytest.raises(InputError, match="'data' would take 32768 bytes"):
        open_cube(tmp_path / "a.tif", None, "y")


def test_a_head_that_never_ends_is_not_read(tmp_path, frugal):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        head = b"\x93NUMPY\x02\x00" + (2**31 - 1).to_bytes(4, "little")
        archive.writestr("t.npy", head + bytes(2**24))
    with pytest.raises(InputError, match="cannot be read as npz"):
        read_arrays(tmp_path / "data.npz")


def test_the_limit_is_the_callers(tmp_path, monkeypatch):
    npz(tmp_path / "data.npz", t=T, y=Y)
    monkeypatch.setenv("VARPRO_MAX_BYTES", "199")
    with pytest.raises(InputError, match="'y' would take 200 bytes; at most 199"):
        plan_of(tmp_path, "data.npz")
    monkeypatch.setenv("VARPRO_MAX_BYTES", "2e2")
    assert plan_of(tmp_path, "data.npz").columns.y.shape == (25,)
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("VARPRO_MAX_BYTES", wrong)
        with pytest.raises(InputError, match="VARPRO_MAX_BYTES is .* expected a number of bytes"):
            plan_of(tmp_path, "data.npz")


# Kinds and sizes of files.


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (kind, what)
        for kind in ("device", "link to a device", "pipe", "socket", "too large")
        for what in ("configuration", "data", "parameters", "response", "arrays")
        # No device has an ending, and archives are judged by what is in them.
        if what != "arrays" or kind not in ("device", "too large")
    ],
)
def test_only_files_that_end_are_opened(tmp_path, frugal, what, kind):
    name = "foreign.npz" if what == "arrays" else "foreign.csv"
    path = tmp_path / name
    expected = "is a device, not a file. Write what it gives into a file first"
    if kind == "device":
        path = "/dev/zero"
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
        expected = "is a pipe, not a file"
    elif kind == "socket":
        import socket

        os.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(name)
        expected = "is a socket, not a file"
    else:
        with path.open("wb") as file:
            file.truncate(100_000_000)  # of no size on the disk
        expected = "100000000 bytes; at most (67108864|1000000) are read"
    with pytest.raises(InputError, match=expected) as info:
        if what == "configuration":
            load(path)
        elif what in ("data", "arrays"):
            plan_of(tmp_path, path)
        elif what == "parameters":
            np.savetxt(tmp_path / "d.csv", np.c_[T, Y], delimiter=",", header="t,y", comments="")
            plan_of(tmp_path, "d.csv", f"}}\nparameters: '{path}'\noutput: {{plots: []")
        else:
            np.savetxt(tmp_path / "d.csv", np.c_[T, Y], delimiter=",", header="t,y", comments="")
            plan_of(
                tmp_path,
                "d.csv",
                f"}}\nresponses: {{r: {{kind: measured, path: '{path}', x: t, y: y}}",
            )
    assert "\n" not in str(info.value)


def test_files_of_the_kernel_that_have_no_size_are_read_no_further_than_the_limit():
    assert (
        b"Linux" in read_whole("/proc/version", "data", 1000) if sys.platform == "linux" else True
    )
    if sys.platform == "linux":
        with pytest.raises(InputError, match="at most 5 are read"):
            read_whole("/proc/version", "data", 5)


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\0b"', '"\\udfff.csv"'])
def test_half_a_letter_or_a_zero_byte_in_a_configuration_is_named(tmp_path, text):
    path = tmp_path / "fit.yaml"
    path.write_text(f"title: x\ndata: {{path: {text}}}\n")
    with pytest.raises(
        InputError, match=r"fit.yaml:2 a text holds a zero byte or half of a letter"
    ):
        load(path)
