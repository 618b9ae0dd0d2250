// The icons in use, as text of their SVG; each is bundled only because it is named here.
import arrowClockwise from "bootstrap-icons/icons/arrow-clockwise.svg?raw";
import arrowDown from "bootstrap-icons/icons/arrow-down.svg?raw";
import arrowRepeat from "bootstrap-icons/icons/arrow-repeat.svg?raw";
import arrowUp from "bootstrap-icons/icons/arrow-up.svg?raw";
import bell from "bootstrap-icons/icons/bell.svg?raw";
import boxArrowRight from "bootstrap-icons/icons/box-arrow-right.svg?raw";
import checkCircle from "bootstrap-icons/icons/check-circle.svg?raw";
import clock from "bootstrap-icons/icons/clock.svg?raw";
import exclamationTriangle from "bootstrap-icons/icons/exclamation-triangle.svg?raw";
import graphUp from "bootstrap-icons/icons/graph-up.svg?raw";
import infoCircle from "bootstrap-icons/icons/info-circle.svg?raw";
import key from "bootstrap-icons/icons/key.svg?raw";
import layers from "bootstrap-icons/icons/layers.svg?raw";
import list from "bootstrap-icons/icons/list.svg?raw";
import listCheck from "bootstrap-icons/icons/list-check.svg?raw";
import pause from "bootstrap-icons/icons/pause.svg?raw";
import pencil from "bootstrap-icons/icons/pencil.svg?raw";
import people from "bootstrap-icons/icons/people.svg?raw";
import play from "bootstrap-icons/icons/play.svg?raw";
import plug from "bootstrap-icons/icons/plug.svg?raw";
import plusLg from "bootstrap-icons/icons/plus-lg.svg?raw";
import robot from "bootstrap-icons/icons/robot.svg?raw";
import send from "bootstrap-icons/icons/send.svg?raw";
import signpostSplit from "bootstrap-icons/icons/signpost-split.svg?raw";
import skipForward from "bootstrap-icons/icons/skip-forward.svg?raw";
import slashCircle from "bootstrap-icons/icons/slash-circle.svg?raw";
import stopCircle from "bootstrap-icons/icons/stop-circle.svg?raw";
import trash from "bootstrap-icons/icons/trash.svg?raw";
import upload from "bootstrap-icons/icons/upload.svg?raw";
import xCircle from "bootstrap-icons/icons/x-circle.svg?raw";
import xLg from "bootstrap-icons/icons/x-lg.svg?raw";

export const ICONS = {
  "arrow-clockwise": arrowClockwise,
  "arrow-down": arrowDown,
  "arrow-repeat": arrowRepeat,
  "arrow-up": arrowUp,
  bell,
  "box-arrow-right": boxArrowRight,
  "check-circle": checkCircle,
  clock,
  "exclamation-triangle": exclamationTriangle,
  "graph-up": graphUp,
  "info-circle": infoCircle,
  key,
  layers,
  list,
  "list-check": listCheck,
  pause,
  pencil,
  people,
  play,
  plug,
  "plus-lg": plusLg,
  robot,
  send,
  "signpost-split": signpostSplit,
  "skip-forward": skipForward,
  "slash-circle": slashCircle,
  "stop-circle": stopCircle,
  trash,
  upload,
  "x-circle": xCircle,
  "x-lg": xLg,
} as const;

export type IconName = keyof typeof ICONS;
