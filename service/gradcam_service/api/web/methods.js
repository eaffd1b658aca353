/* What each method shows, in words. One that is new to this page goes by its name. */

const WORDS = {
  gradcam: ["Grad-CAM", "Coloured: where the evidence for {class} lies."],
  gradcam_counterfactual: ["Counterfactual", "Coloured: what lowers the score of {class}; without it, the model would be surer."],
  gradcam_plus_plus: ["Grad-CAM++", "Coloured: evidence for {class}, weighted so that several instances show."],
  hirescam: ["HiResCAM", "Coloured: the cells that raised the score of {class}, each by its own gradient."],
  xgradcam: ["XGrad-CAM", "Coloured: evidence for {class}, its weights scaled by how active the features are."],
  layercam: ["LayerCAM", "Coloured: evidence for {class}, cell by cell; works at early layers too."],
  finercam: ["Finer-CAM", "Coloured: what tells {class} from the classes most like it."],
  eigencam: ["Eigen-CAM", "Coloured: what stands out to the network, whatever the class."],
  cam: ["CAM", "Coloured: evidence for {class}, read off the last layer’s weights: Grad-CAM’s ancestor."],
  ablationcam: ["Ablation-CAM", "Coloured: the features without which {class} would lose most."],
  scorecam: ["Score-CAM", "Coloured: the features through which the picture still looks like {class}."],
  guided_backprop: ["Guided backprop", "Grey is zero. Fine detail that the network reacts to; hardly depends on the class."],
  guided_gradcam: ["Guided Grad-CAM", "Grey is zero. Fine detail where Grad-CAM finds evidence for {class}."],
  integrated_gradients: ["Integrated gradients", "Grey is zero. What each pixel adds to the score of {class}, from black to the picture."],
  smoothgrad: ["SmoothGrad", "Grey is zero. How {class} reacts to each pixel, averaged over noisy copies."],
  occlusion: ["Occlusion", "Coloured: what hurts {class} when it is covered."],
  rise: ["RISE", "Coloured: what {class} needs to be seen, from a thousand random masks."],
};

/** From here on a method is run in comparisons only when it is asked for. */
const SLOW = 10; // forward passes

export const title = (name) => WORDS[name]?.[0] ?? name;

/** One sentence: what the colours of a method's map mean for a class. */
export function meaning(name, label) {
  const sentence = WORDS[name]?.[1] ?? "The stronger the colour, the more the method gives to that place for {class}.";
  return sentence.replace("{class}", label);
}

export const isSlow = (method) => method.forward_passes > SLOW;

export const cost = (method) => (method.forward_passes === 1 ? "1 forward pass" : `${method.forward_passes} forward passes`);
