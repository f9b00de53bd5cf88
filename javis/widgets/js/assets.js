/** Math and colours of code: fetched from the kernel when first needed, kept for the whole page by version. */

/** @import {Wire} from './wire.js' */

/** Set by the build: the version of each file. @type {Record<string, string>} */
const VERSIONS = /** @type {any} */ (globalThis).__JAVIS_ASSETS__ ?? {};

/**
 * @template T
 * @typedef {{get: () => T|null, load: () => Promise<T|null>}} Lazy
 */

/** @type {Record<string, any>} */
const kept = ((/** @type {any} */ (globalThis)).__javisAssets ??= {});

/**
 * @param {Wire} wire
 * @param {string} name
 * @returns {Lazy<any>}
 */
export function lazy(wire, name) {
  const key = `${name}@${VERSIONS[name] ?? 'dev'}`;
  return {
    get: () => kept[key]?.module ?? null,
    load: () => {
      kept[key] ??= { module: null, promise: null };
      const entry = kept[key];
      entry.promise ??= fetchModule(wire, name).then(
        (module) => (entry.module = module),
        () => {
          // Another answer may try again, but not at once.
          setTimeout(() => { entry.promise = null; }, 30000);
          return null;
        },
      );
      return entry.promise;
    },
  };
}

/**
 * @param {Wire} wire
 * @param {string} name
 */
async function fetchModule(wire, name) {
  const { buffers } = await wire.asset(name);
  if (!buffers.length) throw new Error(`no bytes for ${name}`);
  const url = URL.createObjectURL(new Blob([/** @type {any} */ (buffers[0])], { type: 'text/javascript' }));
  try {
    return await import(/* webpackIgnore: true */ url);
  } finally {
    URL.revokeObjectURL(url);
  }
}
