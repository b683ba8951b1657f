// A page without a pair: send what this browser still holds.

import { Outbox } from "./outbox.js";
import "./copy.js";

new Outbox(document.querySelector("#outbox")).send();
