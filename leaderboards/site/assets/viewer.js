// The slice viewer: two methods side by side, what the right one gets wrong, and a flip between the two in one place.
"use strict";
(() => {
  for (const section of document.querySelectorAll("section.viewer")) {
    const stack = JSON.parse(section.dataset.stack);
    const root = section.dataset.root;
    const controls = section.querySelector(".controls");
    const [slider, output] = [controls.querySelector("[name=slice]"), controls.querySelector("output")];
    const sides = { left: controls.querySelector("[name=left]"), right: controls.querySelector("[name=right]") };
    const flip = controls.querySelector("[name=flip]");
    const figures = Object.fromEntries(
      [...section.querySelectorAll("figure")].map((figure) => [figure.dataset.side, figure]),
    );
    const pictureOf = (key) => stack.pictures.find((picture) => picture.key === key);
    let flipped = false;

    const fill = (side, file, alt, caption) => {
      const image = figures[side].querySelector("img");
      image.hidden = file === undefined;
      if (file !== undefined) image.setAttribute("src", root + file);
      image.alt = alt;
      figures[side].querySelector("figcaption").textContent = caption;
    };

    const draw = () => {
      const slice = Number(slider.value);
      const said = `${slice + 1} of ${stack.positions.length}`;
      output.textContent = `${said} (${stack.positions[slice]} mm)`;
      slider.setAttribute("aria-valuetext", `slice ${said}, ${stack.positions[slice]} mm`);
      const right = pictureOf(sides.right.value);
      const left = flipped ? right : pictureOf(sides.left.value);
      fill("left", left.files[slice], `${left.label}, slice ${slice + 1}`, left.label);
      fill("right", right.files[slice], `${right.label}, slice ${slice + 1}`, right.label);
      fill(
        "difference",
        right.differences[slice],
        `Difference between ${right.label} and HR, slice ${slice + 1}`,
        right.differences.length
          ? `${right.label} minus HR; RMS ${right.errors[slice]} % of the range`
          : "HR differs from itself nowhere",
      );
    };

    const turn = () => {
      flipped = !flipped;
      flip.setAttribute("aria-pressed", String(flipped));
      draw();
    };

    controls.hidden = false;
    slider.addEventListener("input", draw);
    sides.left.addEventListener("change", draw);
    sides.right.addEventListener("change", draw);
    flip.addEventListener("click", turn);
    figures.left.addEventListener("click", turn);
    draw();
  }
})();
