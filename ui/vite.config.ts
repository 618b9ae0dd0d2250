// Builds the console into ui/dist, which the server embeds, and runs its unit tests.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds the API: the server's default address. */
const API_ORIGIN = process.env.MARVIN_ORIGIN ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  build: {
    target: "es2022",
    // The server's content security policy knows no data: fonts or scripts, so every asset stays a file.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  css: {
    preprocessorOptions: {
      scss: {
        quietDeps: true,
        // Bootstrap 5.3 is written with @import; its parts can only be picked the same way.
        silenceDeprecations: ["import"],
      },
    },
  },
  // The server takes changes only from pages of its own origin.
  server: { proxy: { "/api": { target: API_ORIGIN, headers: { Origin: API_ORIGIN } } } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
