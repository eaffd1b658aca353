"""What a client that openapi-python-client generates is answered: to predict, explain, models and a wrong request.

Takes the service's address and a picture's file.
"""

import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

url, file = sys.argv[1:]
beside = Path(sys.executable).parent
subprocess.run(
    [beside / "openapi-python-client", "generate", "--url", f"{url}/openapi.json", "--output-path", "generated"],
    env={"PATH": f"{beside}:/usr/bin:/bin"},
    stdout=sys.stderr,
    check=True,
)
(package,) = (path.parent for path in Path("generated").glob("*/client.py"))
sys.path.insert(0, str(package.parent))

from gradcam_service_client import Client, models  # noqa: E402  of what is generated
from gradcam_service_client.api.inference import explain, predict  # noqa: E402
from gradcam_service_client.api.models import model  # noqa: E402
from gradcam_service_client.api.models import models as listed  # noqa: E402
from gradcam_service_client.types import File  # noqa: E402

client = Client(base_url=url, timeout=60)
picture = Path(file).read_bytes()
coded = base64.b64encode(picture).decode()

of_json = predict.sync(client=client, body=models.PredictJsonPredictImage(image=coded, top_k=2))
raw = predict.sync(client=client, body=File(payload=BytesIO(picture)), top_k=1)
form = predict.sync(client=client, body=models.PredictFilesPredictFiles(image=[File(BytesIO(picture), "a.png")] * 2))
contrast = {"class": 3, "against": "rest"}
kind = models.ExplainJsonExplainImagesTargetType0ItemType2Type0
explained = explain.sync(
    client=client,
    body=models.ExplainJsonExplainImages(
        images=[coded],
        target=["star", kind.from_dict(contrast)],
        output=[models.ExplainJsonExplainImagesOutputType0Item("map")],
    ),
)
refused = explain.sync_detailed(client=client, body=models.ExplainJsonExplainImage(image=coded, target=["dragon"]))
explanations = explained.results[0].explanations
print(
    json.dumps(
        {
            "predictions": [each.to_dict() for each in of_json.results[0].predictions],
            "label": raw.results[0].predictions[0].label,
            "results": len(form.results),
            "maps": [each.map_.data for each in explanations],
            "targets": [type(each.target).__name__ for each in explanations],
            "refused": [refused.status_code, refused.parsed.code],
            "models": [each.name for each in listed.sync(client=client).models],
            "depth": model.sync(client=client, name="scenes").input_.depth,
        }
    )
)
