/** Line drawings of 16 by 16, ours; never made from a text that came from elsewhere. */

/** @type {Record<string, string[]>} */
const DRAWINGS = {
  send: ['M8 13V3.5', 'M4 7l4-4 4 4'],
  stop: ['M4.5 4.5h7v7h-7z'],
  up: ['M5 7.2 7.7 2.6c1 0 1.6.8 1.4 1.8L8.7 6.4h3.2c.9 0 1.5.8 1.3 1.7l-1 4.2c-.2.7-.7 1.1-1.4 1.1H5', 'M2.6 7.2H5v6.2H2.6z'],
  down: ['M5 8.8 7.7 13.4c1 0 1.6-.8 1.4-1.8L8.7 9.6h3.2c.9 0 1.5-.8 1.3-1.7l-1-4.2c-.2-.7-.7-1.1-1.4-1.1H5', 'M2.6 8.8H5V2.6H2.6z'],
  copy: ['M5.5 5.5h7.2v8H5.5z', 'M3.2 10.5V2.6h7.1'],
  check: ['M3.2 8.6l3.2 3.2 6.4-7.2'],
  cross: ['M4 4l8 8', 'M12 4l-8 8'],
  again: ['M13 8a5 5 0 1 1-1.6-3.7', 'M13.2 2.6v2.9h-2.9'],
  edit: ['M3 13l.6-2.9 6.9-6.9 2.3 2.3-6.9 6.9z', 'M9.2 4.5l2.3 2.3'],
  fix: ['M2.6 13h5', 'M9 3.4l2.6 2.6-5.4 5.4-3 .5.4-3z', 'M10.4 13h3'],
  left: ['M9.8 3.8 5.6 8l4.2 4.2'],
  right: ['M6.2 3.8 10.4 8l-4.2 4.2'],
  below: ['M8 2.6v6.2', 'M5.2 6.2 8 9l2.8-2.8', 'M3 12.6h10'],
  run: ['M5 3.2 12.4 8 5 12.8z'],
  list: ['M2.8 4h10.4', 'M2.8 8h10.4', 'M2.8 12h6.4'],
  plus: ['M8 3v10', 'M3 8h10'],
  save: ['M8 2.6v7', 'M5 7l3 3 3-3', 'M2.8 11v2.2h10.4V11'],
  read: ['M1.8 8S4 4 8 4s6.2 4 6.2 4S12 12 8 12 1.8 8 1.8 8z', 'M8 6.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 1 0 0-3.4z'],
  write: ['M3 13l.6-2.9 6.9-6.9 2.3 2.3-6.9 6.9z', 'M8.5 13H13'],
  exec: ['M2.4 3.4h11.2v9.2H2.4z', 'M4.8 6.2 6.6 8 4.8 9.8', 'M8.2 10h2.8'],
  net: ['M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 1 0 8 2.4z', 'M2.4 8h11.2', 'M8 2.4c-4 3.6-4 7.6 0 11.2', 'M8 2.4c4 3.6 4 7.6 0 11.2'],
  wait: ['M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 1 0 8 2.4z', 'M8 5v3.2l2.2 1.4'],
  hand: ['M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 1 0 8 2.4z', 'M4.2 4.2l7.6 7.6'],
  pause: ['M5.8 4v8', 'M10.2 4v8'],
  warn: ['M8 2.8 14 13H2z', 'M8 6.6v3', 'M8 11.2v.2'],
  chip: ['M8 2.4a5.6 5.6 0 1 0 2.9 10.4', 'M10.4 8a2.4 2.4 0 1 1-4.8 0 2.4 2.4 0 0 1 4.8 0v.9c0 1 .6 1.5 1.5 1.5s1.7-.9 1.7-2.4a5.6 5.6 0 0 0-5.6-5.6'],
  pair: ['M2.6 3.4h4.6v9.2H2.6z', 'M8.8 3.4h4.6v9.2H8.8z'],
  eye: ['M1.8 8S4 4 8 4s6.2 4 6.2 4S12 12 8 12 1.8 8 1.8 8z', 'M8 6.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 1 0 0-3.4z'],
  open: ['M4 6.2 8 10.2l4-4'],
  star: ['M8 2.6l1.6 3.5 3.8.4-2.8 2.6.8 3.8L8 11l-3.4 1.9.8-3.8-2.8-2.6 3.8-.4z'],
  picture: ['M2.4 3.4h11.2v9.2H2.4z', 'M2.8 11l3.2-3.4 2.4 2.4 1.8-1.8 3 3', 'M10.6 5.6v.2'],
  book: ['M3 3h4.2c.5 0 .8.3.8.8V13c0-.6-.4-1-1-1H3z', 'M13 3H8.8c-.5 0-.8.3-.8.8V13c0-.6.4-1 1-1h4z'],
  search: ['M7 2.8a4.2 4.2 0 1 0 0 8.4 4.2 4.2 0 1 0 0-8.4z', 'M10.2 10.2l3.2 3.2'],
};

const NS = 'http://www.w3.org/2000/svg';

/**
 * @param {keyof typeof DRAWINGS} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(NS, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', `jv-icon jv-icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('focusable', 'false');
  for (const d of DRAWINGS[name] ?? []) {
    const path = document.createElementNS(NS, 'path');
    path.setAttribute('d', d);
    svg.appendChild(path);
  }
  return svg;
}
