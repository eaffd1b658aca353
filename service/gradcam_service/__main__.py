"""``python -m gradcam_service``: the command ``gradcam``, in this very interpreter."""

from gradcam_service.cli import main

main()
