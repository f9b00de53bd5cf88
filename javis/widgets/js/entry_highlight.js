/** Built into static/highlight.js: colours for the languages that are common in notebooks. */

import hljs from 'highlight.js/lib/common';

/**
 * @param {string} code
 * @param {string} language
 * @returns {string|null} HTML, or null if the language is not known
 */
export function paint(code, language) {
  return hljs.getLanguage(language) ? hljs.highlight(code, { language, ignoreIllegals: true }).value : null;
}
