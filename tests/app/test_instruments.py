"""Files of instruments, written by their readers' own writers or by hand, and read to the same numbers."""

import importlib
import struct
import sys

import numpy as np
import pytest

from varpro import InputError
from varpro.app.data.formats import read_arrays
from varpro.app.data.instruments import FORMATS, format_of
from varpro.app.data.kinds import is_table
from varpro.app.plan.make_plan import make_plan

# Writers of other packages warn of what they do themselves.
pytestmark = pytest.mark.filterwarnings("ignore")
RNG = np.random.default_rng(8)
FID = (np.exp((-3 + 40j) * np.arange(64) / 500.0) * 1000).astype(np.complex64)


def bruker(folder):
    pytest.importorskip("nmrglue")
    path = folder / "bruker"
    path.mkdir()
    # A block of 1024 bytes, of which TD numbers are data.
    raw = np.zeros(256, np.int32)
    raw[: 2 * FID.size : 2], raw[1 : 2 * FID.size : 2] = FID.real.round(), FID.imag.round()
    raw.tofile(path / "fid")
    lines = {
        "SW_h": "500.0",
        "TD": str(2 * FID.size),
        "BYTORDA": "0",
        "DTYPA": "0",
        "DECIM": "1",
        "DSPFVS": "0",
        "GRPDLY": "0",
        "AQ_mod": "3",
    }
    body = "".join(f"##${k}= {v}\n" for k, v in lines.items())
    (path / "acqus").write_text(f"##TITLE= Parameter file\n##JCAMPDX= 5.0\n{body}##END=\n")
    return path, "fid", FID.real.round() + 1j * FID.imag.round(), ("time", np.arange(64) / 500.0)


def varian(folder):
    glue = pytest.importorskip("nmrglue")
    path = folder / "varian.fid"
    path.mkdir()
    parameter = {
        "name": "sw",
        "subtype": "1",
        "basictype": "1",
        "maxvalue": "0",
        "minvalue": "0",
        "stepsize": "0",
        "Ggroup": "2",
        "Dgroup": "1",
        "protection": "8",
        "active": "1",
        "intptr": "64",
        "values": ["500.0"],
        "enumerable": "0",
        "enumerals": [],
    }
    head = {
        "nblocks": 1,
        "ntraces": 1,
        "np": 128,
        "ebytes": 4,
        "tbytes": 512,
        "bbytes": 540,
        "vers_id": 0,
        "status": 0x49,
        "nbheaders": 1,
    }
    dic = head | {
        "procpar": {"sw": parameter},
        "S_DATA": 1,
        "S_SPEC": 0,
        "S_32": 0,
        "S_FLOAT": 1,
        "S_COMPLEX": 1,
        "S_HYPERCOMPLEX": 0,
        "S_ACQPAR": 0,
        "S_SECND": 0,
        "S_TRANSF": 0,
        "S_NP": 0,
        "S_NF": 0,
        "S_NI": 0,
        "S_NI2": 0,
    }
    glue.varian.write_fid(str(path / "fid"), dic, FID[None, :], correct=True)
    glue.varian.write_procpar(str(path / "procpar"), dic["procpar"])
    return path, "fid", FID, ("time", np.arange(64) / 500.0)


def pipe(folder):
    glue = pytest.importorskip("nmrglue")
    path = folder / "test.fid"
    dic = glue.pipe.create_blank_udic(1) if hasattr(glue.pipe, "create_blank_udic") else None
    dic = glue.fileiobase.create_blank_udic(1)
    dic[0] |= {"sw": 500.0, "size": 64, "complex": True, "freq": False, "time": True, "obs": 100.0}
    glue.pipe.write(str(path), glue.pipe.create_dic(dic), FID, overwrite=True)
    return path, "fid", FID, ("time", np.arange(64) / 500.0)


def jcamp(folder):
    pytest.importorskip("jcamp")
    path, x = folder / "ir.jdx", np.linspace(400.0, 4000.0, 51)
    y = np.round(1e4 * np.exp(-(((x - 1700) / 300) ** 2)))
    head = "##TITLE=made up\n##JCAMP-DX=4.24\n##DATA TYPE=INFRARED SPECTRUM\n##XUNITS=1/CM\n##YUNITS=ABSORBANCE\n"
    head += "##FIRSTX=400\n##LASTX=4000\n##NPOINTS=51\n##DELTAX=72\n##XFACTOR=1\n##YFACTOR=0.0001\n##FIRSTY=0\n"
    lines = (" ".join(f"{v:g}" for v in [x[i], *y[i : i + 5]]) for i in range(0, 51, 5))
    path.write_text(head + "##XYDATA=(X++(Y..Y))\n" + "\n".join(lines) + "\n##END=\n")
    return path, "y", 1e-4 * y, ("x", x)


def ptu(folder):
    package = pytest.importorskip("ptufile")
    path, counts = folder / "image.ptu", RNG.poisson(3.0, (1, 4, 5, 1, 32)).astype(np.uint16)
    package.imwrite(path, counts, 25e-9, 25e-9 / 32)
    return path, "counts", counts, ("time", np.arange(32) * 25e-9 / 32)


def nifti(folder):
    package = pytest.importorskip("nibabel")
    path, data = folder / "scan.nii.gz", RNG.normal(size=(3, 4, 2, 6)).astype(np.float32)
    image = package.Nifti1Image(data, np.eye(4))
    image.header.set_zooms((1, 1, 1, 2.5))
    image.header.set_xyzt_units("mm", "sec")
    package.save(image, path)
    return path, "signal", data, ("time", 2.5 * np.arange(6))


def epr(folder):
    pytest.importorskip("eprpy")
    path, y = folder / "cw.DTA", RNG.normal(size=40)
    y.astype(">f8").tofile(path)
    words = {
        "DSRC": "EXP",
        "BSEQ": "BIG",
        "IKKF": "REAL",
        "XTYP": "IDX",
        "YTYP": "NODATA",
        "ZTYP": "NODATA",
        "IRFMT": "D",
        "XPTS": "40",
        "XMIN": "3400.0",
        "XWID": "78.0",
        "XNAM": "'Field'",
        "XUNI": "'G'",
        "EXPT": "CW",
        "MWFQ": "9.5e+09",
    }
    body = "".join(f"{k}\t{v}\n" for k, v in words.items())
    (folder / "cw.DSC").write_text(
        f"#DESC\t1.2 * DESCRIPTOR INFORMATION\n*\n{body}#SPL\t1.2 * STANDARD PARAMETER LAYER\n*\nOPER\tsomebody\n"
    )
    return path, "signal", y, ("field", np.linspace(3400.0, 3478.0, 40))


def msa(folder):
    package = pytest.importorskip("rsciio.msa")
    path, y = folder / "eels.msa", RNG.uniform(1, 2, 20).round(4)
    axis = {
        "name": "Energy",
        "size": 20,
        "offset": 100.0,
        "scale": 0.5,
        "units": "eV",
        "navigate": False,
        "index_in_array": 0,
    }
    signal = {
        "data": y,
        "axes": [axis],
        "metadata": {"General": {"title": "t"}, "Signal": {"signal_type": "EELS"}},
        "original_metadata": {},
    }
    package.file_writer(str(path), signal)
    return path, "signal", y, ("Energy", 100 + 0.5 * np.arange(20))


WRITTEN = {
    "bruker": bruker,
    "varian": varian,
    "pipe": pipe,
    "jcamp": jcamp,
    "ptu": ptu,
    "nifti": nifti,
    "epr": epr,
    "rosetta": msa,
}


@pytest.mark.parametrize("key", WRITTEN)
def test_files_of_instruments_are_read(tmp_path, key):
    path, name, values, (axis, positions) = WRITTEN[key](tmp_path)
    one = format_of(path)
    assert one is not None and one.key == key and not is_table(path)
    found = read_arrays(path)
    np.testing.assert_allclose(
        np.squeeze(found[name].values), np.squeeze(values), rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(found[axis].values, positions, rtol=1e-5)
    assert found[axis].dims[0] in found[name].dims


def test_a_free_induction_decay_is_planned_from_its_folder(tmp_path):
    bruker(tmp_path)
    (tmp_path / "fit.yaml").write_text(
        "data: {path: bruker, x: time, y: fid}\nmodel: {line: {kind: complex_exp, freq: 6.0, rate: 3.0}}\n"
    )
    columns = make_plan(str(tmp_path / "fit.yaml")).columns
    assert np.iscomplexobj(columns.y) and columns.x_unit == "s" and columns.x.size == 64


# First bytes of formats, with the ending of the file where that matters.
FIRST = {
    "opus": ("a.0", b"\x0a\x0a\xfe\xfe" + bytes(60)),
    "spc": ("a.spc", b"\x00\x4b" + bytes(60)),
    "sdt": ("a.dat", bytes(32) + b"UU" + bytes(40)),
    "ptu": ("a.bin", b"PQTTTR\0\0" + bytes(60)),
    "jcamp": ("a.txt", b"##TITLE= made up\n##JCAMP-DX= 4.24\n"),
    "nifti": ("a.nii", bytes(344) + b"n+1\0" + bytes(60)),
    "pipe": ("a.ft2", struct.pack("<3f", 0.0, 0.0, 2.345) + bytes(60)),
    "rosetta": ("a.wdf", b"WDF1" + bytes(60)),
}


@pytest.mark.parametrize("key", FIRST)
def test_first_bytes_tell_the_format_and_what_to_install(tmp_path, monkeypatch, key):
    name, head = FIRST[key]
    (tmp_path / name).write_bytes(head)
    one = format_of(tmp_path / name)
    assert one is not None and one.key == key and not is_table(tmp_path / name)
    if one.package:
        monkeypatch.setitem(sys.modules, one.package, None)
        message = f"is {one.name}, which needs {one.package}, .*pip install varpro\\[{one.extra}\\]"
    else:
        message = f"is {one.name}, which no package reads"
    with pytest.raises(InputError, match=message):
        read_arrays(tmp_path / name)


@pytest.mark.parametrize("key", FIRST)
def test_a_damaged_file_of_an_instrument_is_named(tmp_path, key):
    name, head = FIRST[key]
    (tmp_path / name).write_bytes(head)
    with pytest.raises(InputError, match=f"{name}: data: "):
        read_arrays(tmp_path / name)


def test_of_blocks_of_jcamp_the_first_spectrum_is_read_and_a_count_that_is_wrong_refused(tmp_path):
    pytest.importorskip("jcamp")
    points = "".join(f"{400 + i}, {i**2 + 1}\n" for i in range(9))
    blocks = (
        "##TITLE= a structure\n##JCAMP-CS= 3.7\n##END=\n",
        "##TITLE= peaks\n##NPOINTS= 1\n##PEAK TABLE= (XY..XY)\n404, 17\n##END=\n",
        f"##TITLE= spectrum\n##NPOINTS= 9\n##XYPOINTS= (XY..XY)\n{points}##END=\n",
    )
    head = "##TITLE= all\n##JCAMP-DX= 5.0\n##DATA TYPE= LINK\n##BLOCKS= 3\n"
    (tmp_path / "a.jdx").write_text(head + "".join(blocks) + "##END=\n")
    found = read_arrays(tmp_path / "a.jdx")
    np.testing.assert_array_equal(found["x"], 400 + np.arange(9))
    np.testing.assert_array_equal(found["y"], np.arange(9) ** 2 + 1)
    (tmp_path / "b.jdx").write_text(blocks[2].replace("NPOINTS= 9", "NPOINTS= 90"))
    with pytest.raises(InputError, match="announces 90 points and holds 9"):
        read_arrays(tmp_path / "b.jdx")


def test_pages_of_jcamp_are_the_parts_of_a_decay(tmp_path):
    pytest.importorskip("jcamp")
    y = np.round(1000 * np.exp((-0.1 + 0.7j) * np.arange(12)))
    pages = "".join(
        f"##PAGE= N={n}\n##DATA TABLE= (X++({letter}..{letter})), XYDATA\n"
        + "".join(f"{i * 0.5:g} {v:g}\n" for i, v in enumerate(part))
        for n, letter, part in ((1, "R", y.real), (2, "I", y.imag))
    )
    (tmp_path / "fid.dx").write_text(
        "##TITLE= fid\n##JCAMP-DX= 5.00\n##DATA TYPE= NMR FID\n##DATA CLASS= NTUPLES\n##NTUPLES= NMR FID\n"
        "##VAR_NAME= TIME, FID/REAL, FID/IMAG, PAGE NUMBER\n##SYMBOL= X, R, I, N\n##VAR_DIM= 12, 12, 12, 2\n"
        "##UNITS= SECONDS, ARBITRARY UNITS, ARBITRARY UNITS\n##FIRST= 0, 1000, 0, 1\n##LAST= 5.5, 0, 0, 2\n"
        f"##FACTOR= 1, 2, 2, 1\n{pages}##END NTUPLES= NMR FID\n##END=\n"
    )
    found = read_arrays(tmp_path / "fid.dx")
    np.testing.assert_allclose(found["fid"], 2 * y)
    np.testing.assert_allclose(found["time"], 0.5 * np.arange(12))
    assert found["time"].attrs["units"] == "s"


def test_epr_data_are_read_that_do_not_say_what_x_is(tmp_path):
    path, _, y, (_, positions) = epr(tmp_path)
    described = tmp_path / "cw.DSC"
    lines = [
        line for line in described.read_text().splitlines() if line[:4] not in ("XNAM", "XUNI")
    ]
    described.write_text("\n".join(lines) + "\n")
    found = read_arrays(path)
    np.testing.assert_allclose(found["signal"], y)
    np.testing.assert_allclose(found["x"], positions)


def test_strengths_of_gradients_stand_beside_an_image_of_diffusion(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    from varpro.app.propose.columns import Asked, find_columns

    b = np.array([0.0, 1000.0, 0.0, 500.0, 800.0, 1000.0])
    signal = (900 * np.exp(-b * 1e-3)).astype(np.int16) * np.ones((2, 3, 4, 1), np.int16)
    nibabel.save(nibabel.Nifti1Image(signal, np.eye(4)), tmp_path / "dwi.nii.gz")
    (tmp_path / "dwi.bval").write_text(" ".join(f"{v:g}" for v in b) + "\n")
    found = find_columns(tmp_path / "dwi.nii.gz", Asked())
    assert found.keys == {"variable": "signal", "x": "bval"} and found.each
    np.testing.assert_array_equal(found.x, b)
    (tmp_path / "dwi.bval").write_text("0 1000\n")
    with pytest.raises(InputError, match="dwi.bval has 2 numbers for 6 volumes"):
        read_arrays(tmp_path / "dwi.nii.gz")


def test_arrays_in_groups_of_netcdf_are_named_by_both(tmp_path):
    import xarray as xr

    decay = xr.Dataset({"signal": ("time", np.arange(5.0))}, {"time": np.arange(5) / 2})
    decay.to_netcdf(tmp_path / "a.nc", group="detector 1", engine="h5netcdf")
    found = read_arrays(tmp_path / "a.nc")
    np.testing.assert_array_equal(found["detector 1/signal"], np.arange(5.0))


def test_every_extra_is_part_of_formats():
    import pathlib
    import tomllib

    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())[
        "project"
    ]
    extras = project["optional-dependencies"]
    named = {one.extra for one in FORMATS if one.extra} | {"xlsx"}
    for extra in named:
        for requirement in extras[extra]:
            assert requirement in extras["formats"], requirement
    for one in FORMATS:
        if one.package and importlib.util.find_spec(one.package) is None:
            assert one.extra in extras
