(() => {
  const text = document.getElementById("filter-text");
  const kind = document.getElementById("filter-kind");
  const count = document.getElementById("filter-count");
  const questions = [...document.querySelectorAll("details.question")].map((element) => ({
    element,
    words: element.textContent.toLowerCase(),
    kinds: element.dataset.kind.split(" "),
  }));
  const apply = () => {
    const wanted = text.value.toLowerCase().trim();
    let shown = 0;
    for (const { element, words, kinds } of questions) {
      const keep = words.includes(wanted) && (kind.value === "" || kinds.includes(kind.value));
      element.hidden = !keep;
      shown += keep ? 1 : 0;
    }
    count.textContent = `${shown} of ${questions.length} questions`;
  };
  text.addEventListener("input", apply);
  kind.addEventListener("change", apply);
})();
