// Starts the console.
import "./styles/marvin.scss";
import "uplot/dist/uPlot.min.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { followTheme } from "./lib/theme.svelte";
import { navigation } from "./lib/navigation.svelte";

followTheme();
navigation.listen();

const target = document.getElementById("console");
if (target !== null) mount(App, { target });
