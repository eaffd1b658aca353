/* What the embedded models are shown, and asked, before a visitor chooses something. */

const SCENES = {
  "cross-star.jpg": "a cross and a star",
  "fish-star.jpg": "a fish and a star",
  "triangle-star-lightning.jpg": "a triangle, a star and a lightning bolt",
  "lightning-cross-arrow.jpg": "a lightning bolt, a cross and an arrow",
};
const PHOTOGRAPHS = {
  "camera.jpg": "photograph of a man behind a camera on a tripod",
  "coffee.jpg": "photograph of a cup of coffee",
  "cat.jpg": "photograph of a cat",
};

/**
 * pictures: file → what it shows, the first being that of a first visit. targets: what is then explained, two classes that
 * say more side by side than either. texts: questions, the first of which is asked. knows: all that the model knows.
 */
const SAMPLES = {
  imagenet: { pictures: PHOTOGRAPHS, targets: [872, 759] }, // the tripod, the reflex camera
  scenes: { pictures: SCENES, targets: [3, 10], knows: "drawn shapes" },
  "scenes-captions": { pictures: SCENES, knows: "drawn shapes" },
  "easy-vqa": {
    pictures: { "shape-circle.png": "a teal circle", "shape-triangle.png": "a red triangle", "shape-rectangle.png": "a yellow rectangle" },
    texts: ["what color is the shape?", "what shape is in the image?", "is there a circle?", "is there not a red shape?"],
    knows: "drawings of one coloured shape",
  },
  policy: {
    pictures: {
      "doorkey-key.png": "two rooms; the key lies there",
      "doorkey-door.png": "two rooms; the agent has the key",
      "doorkey-goal.png": "two rooms; the door is open",
    },
    knows: "MiniGrid’s DoorKey",
  },
};
const NONE = { pictures: {} };

export const PICTURES = Object.entries(Object.assign({}, ...Object.values(SAMPLES).map(({ pictures }) => pictures)))
  .map(([file, shows]) => ({ file, name: file.split(".")[0], shows }));

/** Whether a model, as far as it is known, takes files of images. */
export const takesImages = (input) => !input || input.media_types.some((type) => type.startsWith("image/"));

/** What a model, as GET /models lists it, is shown: photographs, but where it takes bands, several frames or no images. */
export function samplesFor({ name, input }) {
  if (SAMPLES[name]) return SAMPLES[name];
  return [1, 3].includes(input?.channels ?? 3) && !input?.frames && takesImages(input) ? { pictures: PHOTOGRAPHS } : NONE;
}

/** The embedded pictures that a model can make something of. */
export function picturesFor(model) {
  const { pictures } = samplesFor(model);
  return PICTURES.filter(({ file }) => file in pictures);
}
