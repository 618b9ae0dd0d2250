// Light or dark, as the person's system says, also when it changes its mind.

class Theme {
  dark = $state(false);
}

export const theme = new Theme();

export function followTheme(): void {
  const night = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    theme.dark = night.matches;
    document.documentElement.dataset.bsTheme = night.matches ? "dark" : "light";
  };
  night.addEventListener("change", follow);
  follow();
}
