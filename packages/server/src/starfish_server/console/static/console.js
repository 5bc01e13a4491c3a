"use strict";

// The live feed: one row a write, newest first.
const feed = document.getElementById("feed");
if (feed) {
  const state = document.getElementById("feed-state");
  const pause = document.getElementById("feed-pause");
  const most = 200;
  const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
  });

  const source = new EventSource(feed.dataset.stream);
  source.addEventListener("open", () => { state.textContent = "Connected."; });
  source.addEventListener("error", () => {
    state.textContent = source.readyState === EventSource.CLOSED ? "There is nothing to follow here." : "Connection lost; trying again…";
  });
  source.addEventListener("message", (event) => {
    if (pause.getAttribute("aria-pressed") === "true") return;
    const told = JSON.parse(event.data);
    const row = document.createElement("tr");
    const link = document.createElement("a");
    const collection = told.namespace ? `${told.namespace}/${told.collection}` : told.collection;
    link.textContent = told.key;
    link.href = `${feed.dataset.document}?${new URLSearchParams({ collection, path: told.key })}`;
    const name = document.createElement("td");
    name.append(link);
    const time = told.timestamp ? new Date(told.timestamp).toLocaleTimeString() : "";
    row.append(cell("td", time), cell("td", collection), name, cell("td", told.deleted ? "removed" : told.hash.slice(0, 16)));
    feed.prepend(row);
    while (feed.rows.length > most) feed.deleteRow(-1);
  });
}

// A file that is chosen or dropped is sent as it is; the answer takes the place of the sections.
for (const form of document.querySelectorAll("form[data-upload]")) {
  const sections = document.getElementById("sections");
  const send = async (file) => {
    if (!file) return;
    sections.textContent = `Looking at ${file.name}…`;
    const answer = await fetch(location.href, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const shown = page.getElementById("content") ?? page.body;
    sections.replaceChildren(...shown.childNodes);
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => send(event.target.files[0]));
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    send(event.dataTransfer.files[0]);
  });
}
