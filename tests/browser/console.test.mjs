// Walks through the console in a real browser, as its first person does. The steps stand in the files below, in this order.
import { after } from "node:test";
import { close } from "./scene.mjs";
import "./working.mjs";
import "./deciding.mjs";
import "./schedules.mjs";
import "./projections.mjs";
import "./webhooks.mjs";
import "./people_and_places.mjs";

after(close);
