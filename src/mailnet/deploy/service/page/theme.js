/** Dark or light: as the system has it, until the user says otherwise. Nothing is remembered. */

export function startTheme(button) {
  const sheet = document.getElementById("dark");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const isDark = () => (chosen === null ? system.matches : chosen);
  const label = button.querySelector("span");
  const show = () => {
    if (chosen !== null) sheet.media = chosen ? "screen" : "not all";
    label.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Light theme" : "Dark theme");
  };
  button.addEventListener("click", () => {
    chosen = !isDark();
    show();
  });
  system.addEventListener("change", show);
  show();
}
