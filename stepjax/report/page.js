"use strict";
// How many responses a filter leaves. The filters themselves are radio buttons and style sheets: they need no script.
(() => {
  for (const told of document.querySelectorAll("[data-counts]")) {
    const part = told.closest("section");
    const count = () => {
      const shown = [...part.querySelectorAll("." + told.dataset.counts)].filter((card) => card.offsetParent);
      const filtered = !part.querySelector("[id$=-all]").checked;
      told.textContent = filtered ? (shown.length || "none") + " shown" : "";
    };
    part.addEventListener("change", count);
    count();
  }
})();

// The read-out of the charts: the values nearest to the pointer, or to the cursor that the arrow keys move.
(() => {
  const show = (value, unit) =>
    (unit === "share" ? (100 * value).toFixed(1) + "%" : String(Number(value.toPrecision(4)))).replace("-", "−");

  for (const svg of document.querySelectorAll("svg[data-lines]")) {
    const data = JSON.parse(svg.dataset.lines);
    const [low, high, start, end] = data.x;
    const steps = [...new Set(data.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const along = (x) => (data.xLog ? Math.log10(x) : x);
    const place = (x) => start + ((along(x) - low) / (high - low)) * (end - start);
    const rule = document.createElementNS(svg.namespaceURI, "path");
    rule.setAttribute("class", "rule");
    svg.append(rule);
    const box = document.createElement("div");
    box.className = "readout";
    box.hidden = true;
    box.setAttribute("role", "status");
    svg.parentElement.append(box);
    let at = steps.length - 1;

    const read = (index) => {
      at = Math.max(0, Math.min(steps.length - 1, index));
      const x = place(steps[at]);
      rule.setAttribute("d", `M${x} 12V${svg.viewBox.baseVal.height - 34}`);
      rule.style.display = "";
      box.replaceChildren(`${data.xName} ${steps[at]}`);
      for (const line of data.lines) {
        let nearest = 0;
        line.x.forEach((step, i) => {
          if (Math.abs(step - steps[at]) < Math.abs(line.x[nearest] - steps[at])) nearest = i;
        });
        const item = document.createElement("div");
        item.className = line.tone;
        item.textContent = (data.lines.length > 1 ? line.name + " " : "") + show(line.y[nearest], data.unit);
        if (line.x[nearest] !== steps[at]) item.textContent += ` (at ${line.x[nearest]})`;
        box.append(item);
      }
      box.hidden = false;
      const frame = svg.getBoundingClientRect();
      const left = frame.left - svg.parentElement.getBoundingClientRect().left;
      const pixel = left + (x / svg.viewBox.baseVal.width) * frame.width;
      const onTheLeft = x < (start + end) / 2; // the box goes where there is room
      box.style.left = onTheLeft ? `${pixel + 10}px` : "auto";
      box.style.right = onTheLeft ? "auto" : `calc(100% - ${pixel - 10}px)`;
      box.style.top = `${frame.top - svg.parentElement.getBoundingClientRect().top + 8}px`;
    };
    const hide = () => {
      box.hidden = true;
      rule.style.display = "none";
    };
    const point = (event) => {
      const frame = svg.getBoundingClientRect();
      const x = ((event.clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width;
      let nearest = 0;
      steps.forEach((step, i) => {
        if (Math.abs(place(step) - x) < Math.abs(place(steps[nearest]) - x)) nearest = i;
      });
      read(nearest);
    };

    svg.tabIndex = 0;
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("focus", () => svg.matches(":focus-visible") && read(at));
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 };
      if (event.key in moves) {
        read(moves[event.key]);
        event.preventDefault();
      } else if (event.key === "Escape") hide();
    });
  }
})();
