// Shows, of all the parameters in a form, those of the entry that is chosen:
//
// <select data-chooses>, and in the same form <fieldset data-for="kmeans">. Without this script all of them are there,
// each under its title, and the server reads those of the chosen one only.

for (const select of document.querySelectorAll("select[data-chooses]")) {
  const show = () => {
    for (const parameters of select.form.querySelectorAll("fieldset[data-for]")) {
      parameters.hidden = parameters.disabled = parameters.dataset.for !== select.value;
    }
  };
  select.addEventListener("change", show);
  show();
}
