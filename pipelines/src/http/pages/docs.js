"use strict";
// The routes of /openapi.json, each with a form that calls it.

const BODIES = {
  "post /api/query": { text: "how do I stop being billed", limit: 3 },
  "post /api/documents": { id: "example", title: "A title", text: "Some text to be found." },
  "put /api/documents": [{ id: "example", title: "A title", text: "Other text to be found." }],
};

function make(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function route(method, path, operation) {
  const inputs = operation.parameters.map((parameter) => {
    const input = make("input", { type: "text", name: parameter.name });
    if (parameter.required) input.required = true;
    const label = parameter.description || (parameter.in === "path" ? "part of the path" : "");
    return { parameter, input, label: make("label", {}, make("span", { class: "label" }, `${parameter.name} — ${label}`), input) };
  });
  const example = BODIES[`${method} ${path}`];
  const body = example && make("textarea", { rows: "7", "aria-label": "Body" });
  if (body) body.value = JSON.stringify(example, null, 2);
  const result = make("pre", { "aria-live": "polite", hidden: "" });
  const form = make("div", { class: "body" }, make("p", { class: "hint" }, operation.summary), ...inputs.map((input) => input.label));
  if (body) form.append(body);
  const send = make("button", { type: "button" }, "Send");
  form.append(send, result);
  send.addEventListener("click", async () => {
    let target = path;
    const query = new URLSearchParams();
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(parameter.name, input.value);
    }
    if (query.size) target += `?${query}`;
    const headers = {};
    const key = document.getElementById("key").value;
    if (key) headers["api-key"] = key;
    if (body) headers["content-type"] = "application/json";
    result.hidden = false;
    result.textContent = "…";
    try {
      const response = await fetch(target, { method: method.toUpperCase(), headers, body: body?.value });
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
      result.textContent = `${response.status} ${response.statusText}\n${shown}`;
    } catch (error) {
      result.textContent = `no answer: ${error.message}`;
    }
  });
  return make("details", { class: "route" },
    make("summary", {}, make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path)), form);
}

fetch("/openapi.json").then((response) => response.json()).then(({ paths }) => {
  const routes = document.getElementById("routes");
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) routes.append(route(method, path, operation));
  }
}).catch((error) => { document.getElementById("routes").textContent = `The list of routes did not come: ${error.message}`; });

document.getElementById("unlock").addEventListener("submit", (event) => event.preventDefault());
