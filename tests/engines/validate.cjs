// node validate.cjs FILE: the Khronos glTF validator's report, as JSON.
const fs = require("fs");
const path = require("path");
const root = path.join(process.env.AVATAR3D_ENGINES, "node_modules");
const validator = require(path.join(root, "gltf-validator"));
validator
  .validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])), { maxIssues: 100 })
  .then((report) => process.stdout.write(JSON.stringify(report)));
