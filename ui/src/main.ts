// Starts the console.
import "./styles/marvin.scss";
import "uplot/dist/uPlot.min.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { followTheme } from "./lib/theme.svelte";
import { navigation } from "./lib/navigation.svelte";
import { session } from "./lib/session.svelte";

followTheme();
navigation.listen();
void session.load();

const target = document.getElementById("console");
if (target !== null) mount(App, { target });
