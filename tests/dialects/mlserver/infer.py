"""`mlserver infer`, MLServer's command for many requests.

Takes the service's address, a model and files of pictures.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path

url, model, *files = sys.argv[1:]
requests = [
    {
        "id": str(number),
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1, 1],
                "data": [base64.b64encode(Path(file).read_bytes()).decode()],
                "parameters": {"content_type": "base64"},
            }
        ],
        "outputs": [{"name": "map"}, {"name": "scores"}, {"name": "overlay"}],
    }
    for number, file in enumerate(files)
]
Path("requests.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
given = ["-i", "requests.jsonl", "-o", "answers.jsonl", "-s", str(len(files))]
address = ["-u", url.removeprefix("http://"), "-m", f"{model}-explain"]
command = [Path(sys.executable).with_name("mlserver"), "infer", *address, *given]
done = subprocess.run(command, capture_output=True, text=True, check=False)
assert done.returncode == 0, done.stdout + done.stderr
print(json.dumps([json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]))
