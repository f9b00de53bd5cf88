/**
 * Builds what the package ships: static/chat.js, chat.css, highlight.js, math.js, LICENSES.txt.
 *
 * The first line of chat.js is `// javis sources sha256 <hex>`. The sum is over the files of this folder (not of
 * folders in it) whose names end in .js, .mjs, .css or .json, sorted by name (by code
 * point), their bytes one after another. `node build.mjs --check` says whether the shipped file is stale.
 *
 * chat.js travels to the page once for every chat, as a value of the widget, so it is shipped deflated: a few lines
 * that unpack the minified module, once a page. `node build.mjs --plain` writes it as it is, for a debugger.
 */

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, '..', 'static');
const LIMIT = 150_000;

/** @param {string|Uint8Array} bytes */
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');

function sources() {
  const names = readdirSync(here, { withFileTypes: true })
    .filter((one) => one.isFile() && /\.(js|mjs|css|json)$/.test(one.name))
    .map((one) => one.name)
    .sort((a, b) => (a < b ? -1 : 1));
  return sha(Buffer.concat(names.map((name) => readFileSync(join(here, name)))));
}

/**
 * @param {string} entry
 * @param {Record<string, string>} [define]
 */
async function bundle(entry, define = {}) {
  const result = await build({
    entryPoints: [join(here, entry)], bundle: true, minify: true, format: 'esm', target: ['es2022'], write: false,
    legalComments: 'none', charset: 'utf8', define,
  });
  return result.outputFiles[0].text;
}

/**
 * A module that unpacks another one, once for all chats of a page.
 * @param {string} code
 * @param {string} key
 */
function pack(code, key) {
  const packed = deflateRawSync(code, { level: 9 }).toString('base64');
  return `const code = "${packed}";
const kept = (globalThis.__javisChat ??= {});
kept["${key}"] ??= (async () => {
  const bytes = Uint8Array.from(atob(code), (c) => c.charCodeAt(0));
  const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try { return await import(/* webpackIgnore: true */ url); } finally { URL.revokeObjectURL(url); }
})();
const { default: widget } = await kept["${key}"];
export default widget;
`;
}

const LIBRARIES = [
  { name: 'marked', file: 'chat.js', licence: 'LICENSE' },
  { name: 'dompurify', file: 'chat.js', licence: 'dist/purify.es.mjs' },
  { name: 'highlight.js', file: 'highlight.js', licence: 'LICENSE' },
  { name: 'katex', file: 'math.js', licence: 'LICENSE' },
];

/** The notices of the libraries: for one under two licences, the lines that say so. */
function licences() {
  const texts = LIBRARIES.map(({ name, file, licence }) => {
    const folder = join(here, '..', '..', '..', 'node_modules', name);
    const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const text = readFileSync(join(folder, licence), 'utf8');
    const notice = name === 'dompurify'
      ? `${/@license ([^*]*)/.exec(text)?.[1].trim()}\nUsed here under the Apache License 2.0, the text of which is in the LICENSE of this package.` : text.trim();
    return `${name} ${version} (${license}), in ${file}\n${'-'.repeat(60)}\n${notice}\n`;
  });
  return `Libraries that are part of the files in this folder, with their own notices.\n\n${texts.join('\n\n')}`;
}

async function main() {
  const sum = sources();
  const head = `// javis sources sha256 ${sum}`;
  if (process.argv.includes('--check')) {
    const shipped = readFileSync(join(out, 'chat.js'), 'utf8').split('\n', 1)[0];
    if (shipped === head) return;
    console.error('static/chat.js is older than its sources: run `npm ci && npm run build`');
    process.exitCode = 1;
    return;
  }
  const highlight = await bundle('entry_highlight.js');
  const math = await bundle('entry_math.js');
  const versions = JSON.stringify({ highlight: sha(highlight).slice(0, 12), math: sha(math).slice(0, 12) });
  const plain = await bundle('main.js', { 'globalThis.__JAVIS_ASSETS__': versions });
  const chat = `${head}\n${process.argv.includes('--plain') ? plain : pack(plain, sum.slice(0, 12))}`;
  console.log(`unpacked       ${String(Buffer.byteLength(plain)).padStart(8)} bytes, gzip ${gzipSync(plain).length}`);
  const css = await build({ entryPoints: [join(here, 'style.css')], minify: true, write: false, target: ['es2022'], charset: 'utf8' });
  mkdirSync(out, { recursive: true });
  const files = { 'chat.js': chat, 'chat.css': css.outputFiles[0].text, 'highlight.js': highlight, 'math.js': math, 'LICENSES.txt': licences() };
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(out, name), text);
    console.log(`${name.padEnd(14)} ${String(Buffer.byteLength(text)).padStart(8)} bytes, gzip ${gzipSync(text).length}`);
  }
  if (Buffer.byteLength(chat) > LIMIT) {
    console.error(`chat.js is over its budget of ${LIMIT} bytes`);
    process.exitCode = 1;
  }
}

await main();
