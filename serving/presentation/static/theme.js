// Before anything is drawn: the colours that were chosen last time. Without a choice the system's are used.
const chosenTheme = localStorage.getItem("lifecycle.theme");
if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
