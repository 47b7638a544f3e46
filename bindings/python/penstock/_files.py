"""Between objects and local files: upload and download, by URI and as methods of Store."""
import glob
import os

from . import _penstock
from ._penstock import ExistsError, NotFoundError, Store
from ._place import as_directory, find, refusal, split, text_of

__all__ = ["download", "upload"]


def _bar(progress, n_objects):
    """progress=True shows a bar of tqdm's, if that is installed."""
    if progress is not True:
        return progress, None
    try:
        import tqdm
    except ImportError:
        return None, None
    bar = tqdm.tqdm(total=n_objects, unit="object")
    return (lambda n_done, n_bytes: bar.update(n_done - bar.n)), bar


def _transfer(pairs, max_in_flight, source, target, progress, timeout):
    tell, bar = _bar(progress, len(pairs))
    try:
        _penstock.transfer(pairs, max_in_flight, source=source, target=target, progress=tell,
                           timeout=timeout)
    finally:
        if bar is not None:
            bar.close()
    return len(pairs)


# ---- up ----------------------------------------------------------------------------------------


def _add_file(files, key, path):
    if key in files:
        raise refusal(f"{files[key]!r} and {path!r} would both become {key!r}", "file://" + path)
    files[key] = path


def _add_tree(files, top, name):
    """Every file below a directory, through links to directories as well. What cannot be read is an
    OSError, never left out."""
    waiting = [(top, name, ())]
    while waiting:
        path, name, above = waiting.pop()
        status = os.stat(path)
        own = (status.st_dev, status.st_ino)
        if own in above:
            raise refusal(f"{path!r} is a link to a directory that it lies in", "file://" + path)
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            whole = f"{name}/{entry.name}"
            if entry.is_dir():
                waiting.append((entry.path, whole, (*above, own)))
            else:
                _add_file(files, whole, entry.path)


def _add_source(files, source):
    """The files that one argument of upload stands for, by what they will be called."""
    path = os.fsdecode(os.fspath(source))
    found = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
    if not found:
        raise refusal(f"no file is called, or matches, {path!r}",
                      "file://" + os.path.abspath(path), NotFoundError)
    for one in found:
        one = os.path.abspath(one)
        name = os.path.basename(one)
        if os.path.isdir(one):
            _add_tree(files, one, name)
        else:
            _add_file(files, name, one)


def _find_files(src_patterns):
    if isinstance(src_patterns, (str, bytes, os.PathLike)):
        src_patterns = [src_patterns]
    files = {}
    for source in src_patterns:
        _add_source(files, source)
    return files


def _upload(files, prefix, target, max_in_flight, progress, timeout):
    pairs = [("file://" + path, prefix + name) for name, path in files.items()]
    return _transfer(pairs, max_in_flight, None, target, progress, timeout)


def upload(src_patterns, dest_prefix, max_in_flight=32, create_bucket=False, *, progress=None,
           timeout=None):
    """Copy local files to below `dest_prefix`. Returns how many.

    `src_patterns`: paths or glob patterns; of a directory all files below it are copied, with its
    name before theirs, also those behind links to directories. Two files that would get one key are refused before anything is copied.
    `progress`: called with the numbers of objects and bytes, or True for a bar. The first failure
    stops the rest and is raised."""
    base, key = split(dest_prefix)
    files = _find_files(src_patterns)
    if create_bucket:
        try:
            _penstock.create_container(base, timeout=timeout)
        except ExistsError:
            pass
    return _upload(files, base + as_directory(key), None, max_in_flight, progress, timeout)


# ---- down --------------------------------------------------------------------------------------


def _check_names(base, names, markers):
    """Before anything is written: is each a path below the destination, and a file of its own?"""
    directories = set(markers)
    for name in names + markers:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise refusal(f"the key {name!r} cannot be the name of a file", base + name)
        for n in range(1, len(parts)):
            directories.add("/".join(parts[:n]))
    for name in names:
        if name in directories:
            raise refusal(f"the key {name!r} would be a file and a directory", base + name)


def _is_marker(entry):
    """An empty object "a/", which many tools leave for a directory."""
    return entry.key.endswith("/") and entry.size == 0


def _make_directories(target, names):
    for name in names:
        try:
            target.create_container(name)
        except ExistsError:
            pass


def _download(ops, base, key, dest_dir, recursive, max_in_flight, progress, timeout):
    start, entries = find(ops, base, key, recursive, timeout)
    objects = [entry for entry in entries or () if entry.kind == "object"]
    keys = [key] if entries is None else [entry.key for entry in objects if not _is_marker(entry)]
    whole = (ops.uri if isinstance(ops, Store) else base) + key
    if not keys and not objects:
        raise refusal(f"there is no object at, or below, {whole!r}", whole, NotFoundError)
    names = [one[start:] for one in keys]
    markers = [entry.key[start:-1] for entry in objects
               if _is_marker(entry) and len(entry.key) > start]  # not that of the directory itself
    _check_names(whole[:len(whole) - len(key) + start], names, markers)
    directory = os.path.abspath(os.fsdecode(os.fspath(dest_dir)))
    os.makedirs(directory, exist_ok=True)
    source = ops if isinstance(ops, Store) else None
    with Store("file:///", {"root": directory}) as target:
        _make_directories(target, markers)
        pairs = [(base + one, name) for one, name in zip(keys, names)]
        return _transfer(pairs, max_in_flight, source, target, progress, timeout)


def download(src_uri, dest_dir, max_in_flight=64, recursive=True, *, progress=None, timeout=None):
    """Copy an object, or what is below a directory of objects, to files below `dest_dir`. Returns
    how many.

    Keys become paths as they are; one that cannot be a path below `dest_dir`, or would be a file
    and a directory, is refused before anything is copied. An empty object whose key ends in "/"
    becomes a directory. `progress` and failures as in upload."""
    base, key = split(src_uri)
    return _download(_penstock, base, key, dest_dir, recursive, max_in_flight, progress, timeout)


class Methods:
    """What Store has of it."""

    def upload(self, src_patterns, dest_prefix="", max_in_flight=32, *, progress=None,
               timeout=None):
        """Copy local files to below the directory `dest_prefix`: upload()."""
        files = _find_files(src_patterns)
        prefix = as_directory(text_of(dest_prefix))
        return _upload(files, prefix, self, max_in_flight, progress, timeout)

    def download(self, key, dest_dir, max_in_flight=64, recursive=True, *, progress=None,
                 timeout=None):
        """Copy an object, or what is below a directory, to files below `dest_dir`: download()."""
        return _download(self, "", text_of(key), dest_dir, recursive, max_in_flight, progress,
                         timeout)
