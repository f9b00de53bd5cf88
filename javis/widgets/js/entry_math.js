/** Built into static/math.js: TeX as MathML, which the browser draws with its own fonts. */

import katex from 'katex';

/**
 * @param {string} tex
 * @param {boolean} displayMode
 * @returns {string} MathML; TeX that is wrong comes back in red, as it was written
 */
export function draw(tex, displayMode) {
  return katex.renderToString(tex, {
    displayMode, output: 'mathml', trust: false, strict: false, throwOnError: true, maxExpand: 500, maxSize: 20,
  });
}
