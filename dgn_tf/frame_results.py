"""What `predict` and `serving_client` write of a frame, and how: all of it or nothing."""

import contextlib
import json
import pathlib

from dgn_tf.errors import InputError
from dgn_tf.writing import reason_of, scratch_folder


@contextlib.contextmanager
def staged(folder: pathlib.Path):
    """A hidden folder in `folder` whose files move there when all went well, and vanish if not."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with scratch_folder(folder) as stage:
            yield stage
            files = sorted(stage.iterdir())
            for file in files:  # all of them before the first is moved
                if (folder / file.name).is_dir():
                    raise InputError(
                        f"--output_dir: {folder / file.name} is a folder, where a file is to be "
                        "written; move it away."
                    )
            for file in files:
                file.replace(folder / file.name)
        made = []
    except OSError as error:
        raise InputError(
            f"--output_dir={folder} can't be written: {reason_of(error)}; free space "
            "or choose another folder."
        ) from None
    finally:
        for path in made:  # innermost first
            with contextlib.suppress(OSError):
                path.rmdir()


def mesh_files(mesh, name: str, format: str, warnings) -> dict[str, bytes]:
    """The mesh and its description: ending to content."""
    from dgn_tf import mesh_io

    description = {"frame_name": name, **mesh.to_json(), "warnings": list(warnings)}
    return {
        format: mesh_io.mesh_bytes(mesh.vertices, mesh.faces, format),
        "json": encode_json(description),
    }


def encode_json(description: dict) -> bytes:
    """JSON with one line for each key, and for each key of a dict inside: to read and to diff."""

    def text(value, depth=1):
        if not isinstance(value, dict):
            return json.dumps(value, allow_nan=False)
        pad = " " * depth
        lines = [f"{pad}{json.dumps(key)}: {text(of, depth + 1)}" for key, of in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * (depth - 1) + "}"

    return (text(description) + "\n").encode()
